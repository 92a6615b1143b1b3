{%- set admins = pillar['base']['admins'] %}

include:
  - base.packages
  - base.admins
{%- set problem = salt['account.locked_out'](admins | list) %}
{%- if problem %}

somebody can log in:
  test.fail_without_changes:
    - comment: {{ problem | json }}
    - order: first
    - failhard: True
{%- endif %}

# sshd keeps the first value that it reads, hence 00: cloud images bring files of their own. Its check wants /run/sshd,
# which is missing while sshd is not running.
/etc/ssh/sshd_config.d/00-saltern.conf:
  file.managed:
    - source: salt://base/files/sshd.conf
    - template: jinja
    - context:
        admins: {{ admins | json }}
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: sh -c 'install -d -m 0755 /run/sshd && /usr/sbin/sshd -t -f "$0"'
    - require:
      - pkg: base packages
      - file: /etc/ssh/authorized_keys.d

{#- ssh-audit's policy of each release (lab/audit/goals.yaml). On Debian 13 every key exchange withstands a quantum computer,
    and a client that knows those knows ed25519. On Debian 12 older ones remain, and RSA of 4096 bits for their clients. #}
{%- if grains['osmajorrelease'] | int >= 13 %}
{%- set rsa = '' %}
{%- set exchanges = 'mlkem768x25519-sha256,sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com'
    ~ (',curve25519-sha256,curve25519-sha256@libssh.org,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,'
      ~ 'diffie-hellman-group-exchange-sha256' if pillar['base']['ssh_older_clients'] else '') %}
{%- set macs = 'hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com,umac-128-etm@openssh.com' %}
{%- else %}
{%- set rsa = '/etc/ssh/ssh_host_rsa4096_key' %}
{%- set exchanges = 'sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,'
    ~ 'diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group-exchange-sha256' %}
{%- set macs = 'hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,umac-128-etm@openssh.com' %}
{%- endif %}
{%- set groups = 'diffie-hellman-group-exchange' in exchanges %}
{%- set commands = {
  '/etc/ssh/ssh_host_rsa4096_key': (rsa, "ssh-keygen -q -t rsa -b 4096 -N '' -C '' -f /etc/ssh/ssh_host_rsa4096_key"),
  '/etc/ssh/saltern-moduli': (groups, "awk '$5 >= 3071' /etc/ssh/moduli > /etc/ssh/saltern-moduli"),
} %}
{#- Asked here: the first guard of a state that runs costs half a second. #}
{%- for path, (wanted, command) in commands.items() if wanted and not salt['file.file_exists'](path) %}

{{ path }}:
  cmd.run:
    - name: {{ command | json }}
    - creates: {{ path }}
    - require:
      - pkg: base packages
    - require_in:
      - file: /etc/ssh/sshd_config.d/01-saltern-algorithms.conf
{%- endfor %}

/etc/ssh/sshd_config.d/01-saltern-algorithms.conf:
  file.managed:
    - contents: |
        # Written by Salt as a whole (salt/base/sshd.sls).
        HostKey /etc/ssh/ssh_host_ed25519_key
        {%- if rsa %}
        HostKey {{ rsa }}
        {%- endif %}
        HostKeyAlgorithms ssh-ed25519{{ ',rsa-sha2-512,rsa-sha2-256' if rsa }}
        KexAlgorithms {{ exchanges }}
        Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-gcm@openssh.com,aes128-ctr
        MACs {{ macs }}
        {%- if groups %}
        ModuliFile /etc/ssh/saltern-moduli
        {%- endif %}
    - user: root
    - group: root
    - mode: '0644'
    - check_cmd: sh -c 'install -d -m 0755 /run/sshd && /usr/sbin/sshd -t -f "$0"'
    - require:
      - pkg: base packages

ssh.service:
  daemon.running:
    - inputs:
      - /etc/ssh/sshd_config
      - /etc/ssh/sshd_config.d
    - reload: True
    - watch:
      - file: /etc/ssh/sshd_config.d/00-saltern.conf
      - file: /etc/ssh/sshd_config.d/01-saltern-algorithms.conf
