# Makes a Vagrant machine a host of its fleet, by the commands of docs/servers.md. Vagrant, who reaches every machine,
# is the operator: it hands the fingerprints from one to the other.
require "rubygems/package"
require "stringio"
require "tempfile"
require "yaml"

module Saltern
  REPOSITORY = File.expand_path("../..", __dir__)
  THERE = "/srv/saltern".freeze
  FINGERPRINT = /(?:[0-9a-f]{2}:){31}[0-9a-f]{2}/
  # What a minion gets of the master, and nothing of the site.
  FOR_MINIONS = "srv/saltern/bin srv/saltern/requirements srv/saltern/salt/minion var/cache/saltern/wheelhouse".freeze

  # Registers the provisioner "saltern".
  class Plugin < Vagrant.plugin("2")
    name "saltern"
    config(:saltern, :provisioner) { Config }
    provisioner(:saltern) { Provisioner }
  end

  # site: the folder of the fleet's site on this machine; hosts: the `hosts` of its fleet.yaml, the master first.
  class Config < Vagrant.plugin("2", :config)
    attr_accessor :site, :hosts
  end

  # One machine: type commands on it as root, and bring files to it.
  class Shell
    def initialize(machine)
      @machine = machine
    end

    # Run commands in a folder; show what they say, and return what they print.
    def run(*commands, folder: THERE)
      commands.map do |command|
        @machine.ui.info("# #{command}")
        said = +""
        @machine.communicate.sudo("cd #{folder} && #{command}") do |type, data|
          said << data if type == :stdout
          @machine.ui.detail(data.chomp)
        end
        said
      end.join
    end

    # Unpack an archive that is here into a folder there.
    def unpack(archive, folder)
      @machine.communicate.upload(archive, "/tmp/saltern.tar")
      @machine.communicate.sudo("mkdir -p #{folder} && tar -C #{folder} -xf /tmp/saltern.tar; rm /tmp/saltern.tar")
    end

    # Bring files of another machine here, by way of this one.
    def unpack_from(other, files, folder)
      Dir.mktmpdir do |here|
        other.pack(files, File.join(here, "files.tar"))
        unpack(File.join(here, "files.tar"), folder)
      end
    end

    def pack(files, archive)
      @machine.communicate.sudo("tar -C / -cf /tmp/saltern.tar #{files} && chmod 644 /tmp/saltern.tar")
      @machine.communicate.download("/tmp/saltern.tar", archive)
      @machine.communicate.sudo("rm /tmp/saltern.tar")
    end
  end

  # What `vagrant up` and `vagrant provision` do on each machine.
  class Provisioner < Vagrant.plugin("2", :provisioner)
    def provision
      roles = config.hosts.fetch(id)["roles"]
      if masters.empty?
        send_repository
        here.run("bin/bootstrap --id #{id}", "salt-call site.generate_secrets", "salt-call state.apply")
      elsif roles.include?("master")
        send_repository
        here.run("bin/bootstrap master --id #{id}", "salt-call site.generate_secrets", "salt-call state.apply")
        join(THERE, "bin/bootstrap minion")
      else
        here.unpack_from(master, FOR_MINIONS, "/root")
        join("/root", "srv/saltern/bin/bootstrap minion --id #{id} --wheelhouse var/cache/saltern/wheelhouse")
        here.run("rm -r srv var", folder: "/root")
      end
      return if masters.empty? || id != config.hosts.keys.last

      send_site(master) # with the login of every machine, for all are up now
      master.run("salt-run state.orchestrate orch.apply")
    end

    private

    def id
      @machine.name.to_s
    end

    def here
      Shell.new(@machine)
    end

    def masters
      config.hosts.select { |_, host| host["roles"].include?("master") }.keys
    end

    def master
      Shell.new(@machine.env.machine(masters.first.to_sym, @machine.provider_name))
    end

    # The repository as it is here, without what Git ignores; then the site. Secrets are made there, and stay there.
    def send_repository
      here.run("find . -path ./site/secrets -prune -o -type f -exec rm {} +") if here_already?
      with_archive { |archive| here.unpack(pack_repository(archive), THERE) }
      send_site(here)
    end

    def send_site(shell)
      with_archive { |archive| shell.unpack(pack_site(archive), "#{THERE}/site") }
    end

    # Only root and the site's admins may log in where the states were applied, so a box's own user becomes an admin.
    # And Vagrant's own client of ssh, with which it logs in again, knows no key exchange of today.
    def settings_with_logins(text)
      settings = YAML.safe_load(text) || {}
      base = settings["base"] ||= {}
      base["ssh_older_clients"] = true unless base.key?("ssh_older_clients")
      user = @machine.ssh_info[:username]
      (base["admins"] ||= {})[user] ||= { "ssh_keys" => login_keys, "sudo" => true } unless user == "root"
      YAML.dump(settings)
    end

    # The keys with which Vagrant logs in to the machines that are up; each has its own.
    def login_keys
      hosts = masters.empty? ? [id] : config.hosts.keys
      machines = hosts.map { |name| @machine.env.machine(name.to_sym, @machine.provider_name) }
      machines.select { |machine| machine.state.id == :running }.flat_map do |machine|
        said = +""
        machine.communicate.execute("cat ~/.ssh/authorized_keys") { |type, data| said << data if type == :stdout }
        said.lines.map(&:strip).reject { |line| line.empty? || line.start_with?("#") }
      end.uniq
    end

    def here_already?
      @machine.communicate.test("test -d #{THERE}", sudo: true)
    end

    def with_archive
      Dir.mktmpdir { |folder| yield File.join(folder, "files.tar") }
    end

    # By Git, so that links, modes and line ends are right even on Windows. `stash create` only writes down what differs.
    def pack_repository(archive)
      git("archive", "--output=#{archive}", git("stash", "create").strip.then { |now| now.empty? ? "HEAD" : now })
      archive
    end

    def git(*words)
      done = Vagrant::Util::Subprocess.execute("git", "-c", "core.autocrlf=false", *words, workdir: REPOSITORY)
      raise Vagrant::Errors::VagrantError.new, "git #{words.first}: #{done.stderr}" unless done.exit_code.zero?

      done.stdout
    end

    def pack_site(archive)
      files = Dir.glob("**/*", base: config.site).reject { |name| name.split("/").include?("secrets") }
      files |= ["settings.yaml"]
      File.open(archive, "wb") do |out|
        tar = Gem::Package::TarWriter.new(out)
        files.each do |name|
          path = File.join(config.site, name)
          next unless File.file?(path) || name == "settings.yaml"

          text = File.file?(path) ? File.binread(path) : ""
          text = settings_with_logins(text) if name == "settings.yaml"
          tar.add_file_simple(name, 0o644, text.bytesize) { |entry| entry.write(text) }
        end
        tar.close
      end
      archive
    end

    # Both sides are told the other's fingerprint, and neither obeys or lets in another.
    def join(folder, bootstrap)
      pin = fingerprint(master.run("bin/bootstrap master --id #{masters.first}"))
      address = config.hosts.fetch(masters.first)["address"]
      own = here.run("#{bootstrap} --master #{address} --fingerprint #{pin}", folder: folder)
      master.run("bin/bootstrap accept --id #{id} --fingerprint #{fingerprint(own)}")
    end

    def fingerprint(said)
      said[FINGERPRINT] || raise(Vagrant::Errors::VagrantError.new, "bin/bootstrap named no fingerprint:\n#{said}")
    end
  end
end
