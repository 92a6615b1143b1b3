#!yaml
# Defaults of role base. Change them in the site's settings.yaml, not here.
base:
  timezone: Etc/UTC
  ntp: []
  journal_max_mb: 500
  idle_minutes: 15
  ssh_older_clients: false
  updates:
    days: [mon, tue, wed, thu, fri, sat, sun]
    start: "03:00"
    minutes: 30
    restart: true
  sysctl:
    vm.swappiness: 10
    net.core.somaxconn: 4096
    # What the kernel tells of itself: addresses and messages help whoever attacks it.
    kernel.dmesg_restrict: 1
    kernel.kptr_restrict: 2
    kernel.perf_event_paranoid: 3
    kernel.perf_cpu_time_max_percent: 1
    kernel.perf_event_max_sample_rate: 1
    # What a process may do to another one, or ask of the kernel, without being root.
    kernel.yama.ptrace_scope: 1
    kernel.unprivileged_bpf_disabled: 1
    net.core.bpf_jit_harden: 2
    kernel.randomize_va_space: 2
    vm.mmap_min_addr: 65536
    dev.tty.ldisc_autoload: 0
    kernel.sysrq: 0
    kernel.ctrl-alt-del: 0
    # A kernel that found itself broken must not go on with the data: it boots again, ten seconds later.
    kernel.panic: 10
    kernel.panic_on_oops: 1
    kernel.pid_max: 65536
    # Core dumps have secrets in them.
    kernel.core_pattern: "|/bin/false"
    kernel.core_uses_pid: 1
    fs.suid_dumpable: 0
    # Links and files in folders that everybody writes to, as /tmp.
    fs.protected_hardlinks: 1
    fs.protected_symlinks: 1
    fs.protected_fifos: 2
    fs.protected_regular: 2
    # A server is no router: nobody tells it other ways, and it passes nothing on.
    net.ipv4.conf.all.forwarding: 0
    net.ipv4.conf.all.accept_redirects: 0
    net.ipv4.conf.default.accept_redirects: 0
    net.ipv4.conf.all.secure_redirects: 0
    net.ipv4.conf.default.secure_redirects: 0
    net.ipv4.conf.all.send_redirects: 0
    net.ipv4.conf.default.send_redirects: 0
    net.ipv4.conf.all.shared_media: 0
    net.ipv4.conf.default.shared_media: 0
    net.ipv4.conf.all.accept_source_route: 0
    net.ipv4.conf.default.accept_source_route: 0
    net.ipv4.conf.all.accept_local: 0
    net.ipv4.conf.all.route_localnet: 0
    net.ipv6.conf.all.accept_redirects: 0
    net.ipv6.conf.default.accept_redirects: 0
    net.ipv6.conf.all.accept_source_route: 0
    net.ipv6.conf.default.accept_source_route: 0
    # A packet comes from where its answer would go; 2 for a host with two ways out, such as two providers.
    net.ipv4.conf.all.rp_filter: 1
    net.ipv4.conf.default.rp_filter: 1
    net.ipv4.conf.all.log_martians: 1
    net.ipv4.conf.default.log_martians: 1
    net.ipv4.icmp_echo_ignore_broadcasts: 1
    net.ipv4.icmp_ignore_bogus_error_responses: 1
    net.ipv4.tcp_syncookies: 1
    net.ipv4.tcp_rfc1337: 1
    net.ipv4.ip_local_port_range: 32768 65535
    # Below, a port is root's to give: while a daemon restarts, no app and no other account takes its place.
    net.ipv4.ip_unprivileged_port_start: 32768
  admins: {}
  ssh_from: null
