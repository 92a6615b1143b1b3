# bin/bootstrap master made the user, so that the master's key was its own from the start.
user of the master:
  group.present:
    - name: salt
    - system: True
  user.present:
    - name: salt
    - gid: salt
    - system: True
    - home: /var/lib/salt
    - createhome: False
    - shell: /usr/sbin/nologin
    - require:
      - group: user of the master

{% for directory, mode in [
  ('/etc/salt/pki/master', '0700'),
  ('/var/cache/salt/master', '0700'),
  ('/var/lib/salt', '0700'),
] %}
{{ directory }}:
  file.directory:
    - user: salt
    - group: salt
    - mode: '{{ mode }}'
    - makedirs: True
    - require:
      - user: user of the master
{% endfor %}
