{%- set shared = pillar['wiring']['edge']['virtual_address'] %}
{%- if shared %}
include:
  - edge.service

# curl asks HAProxy whether it answers.
edge packages:
  pkg.installed:
    - install_recommends: False
    - pkgs:
      - keepalived
      - curl

/etc/keepalived/keepalived.conf:
  file.managed:
    - source: salt://edge/files/keepalived.conf
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    # That of Debian 12 ends its own process group after a good test, hence setsid and 143; faults it tells first.
    - check_cmd: >-
        sh -c 'said=$(setsid /usr/sbin/keepalived --config-test --log-console --use-file "$0" 2>&1); code=$?;
        echo "$said"; test $code = 0 || test "$code-$said" = 143-'
    - context:
        host: {{ pillar['host'] | json }}
        interface: {{ salt['vrrp.interface'](pillar['host']['address']) | json }}
        shared: {{ shared | json }}
        https_port: {{ pillar['edge']['https_port'] }}
    - require:
      - pkg: edge packages

/etc/systemd/system/keepalived.service.d/saltern.conf:
  file.managed:
    - source: salt://edge/files/keepalived.service.conf
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: True

# After HAProxy: a host that does not answer yet must not take the address.
keepalived.service:
  daemon.running:
    - reload: True
    - inputs:
      - /etc/keepalived/keepalived.conf
    - require:
      - pkg: edge packages
      - daemon: haproxy.service
    - watch:
      - file: /etc/systemd/system/keepalived.service.d/saltern.conf
      - file: /etc/keepalived/keepalived.conf
{%- else %}
include:
  - edge.keepalived_absent
{%- endif %}
