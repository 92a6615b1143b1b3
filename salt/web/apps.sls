# A host with role worker installs the releases too, and has no web server.
# systemd-run speaks to systemd over the bus; python3 is what the apps run on.
include:
  - builder.python
  - base.firewall
  - web.users
  - builder.folders
{%- if 'builder' in pillar['host']['roles'] %}
  - builder.builds
{%- endif %}

web packages:
  pkg.installed:
    - pkgs: [dbus, python3]
    - install_recommends: False

no other app runs here:
  release.only:
    - apps: {{ pillar['apps'] | list | json }}

{% for directory in ['/srv/apps', '/var/lib/apps', '/run/apps', '/run/web'] %}
{{ directory }}:
  file.directory:
    - user: root
    - group: root
    - mode: "0755"
{% endfor %}

{% for app, settings in pillar['apps'].items() %}
{% set user = settings['user'] %}
# Installs its releases, in a sandbox, and owns nothing when that has ended.
installer of {{ app }}:
  account.service:
    - name: {{ ('pkg-' ~ app) | json }}

# nginx may pass through, to the static files and the socket's link; nobody else's code reads the releases.
{% for directory, group, mode in [
  ('/srv/apps/' ~ app, 'root', '0711'),
  ('/srv/apps/' ~ app ~ '/releases', user, '0750'),
  ('/srv/apps/' ~ app ~ '/static', 'www-data', '0750'),
] %}
{{ directory }}:
  file.directory:
    - user: root
    - group: {{ group | json }}
    - mode: {{ mode | json }}
    - require:
      - account: user of {{ app }}
      - file: /srv/apps
{% endfor %}

/var/lib/apps/{{ app }}:
  file.directory:
    - user: {{ user | json }}
    - group: {{ user | json }}
    - mode: "0700"
    - require:
      - account: user of {{ app }}
      - file: /var/lib/apps

{%- if settings['media_url'] %}
# What the app writes there belongs to the group of nginx by the directory's set-group-ID bit.
/srv/apps/{{ app }}/media:
  file.directory:
    - user: {{ user | json }}
    - group: www-data
    - mode: "2750"
    - require:
      - account: user of {{ app }}
      - file: /srv/apps/{{ app }}
    - require_in:
      - release: release of {{ app }}
{% endif %}
# Sockets: where the app makes them, and root's names for them, by which nginx connects.
{% for directory, owner in [('/run/apps', user), ('/run/web', 'root')] %}
{{ directory }}/{{ app }}:
  file.directory:
    - user: {{ owner | json }}
    - group: www-data
    - mode: "0750"
    - require:
      - account: user of {{ app }}
      - file: {{ directory }}
{% endfor %}

{%- if settings['packages']['run'] %}
packages of {{ app }}:
  pkg.installed:
    - pkgs: {{ settings['packages']['run'] | json }}
    - install_recommends: False
    - require_in:
      - release: release of {{ app }}
{% endif %}

{% if 'web' in pillar['host']['roles'] %}
unit of {{ app }}:
  release.unit_present:
    - name: {{ app | json }}
    - require:
      - account: user of {{ app }}
{% endif %}

# None of its code runs, not even to see whether Django starts, before the firewall holds it.
release of {{ app }}:
  release.staged:
    - name: {{ app | json }}
    - require:
      - pkg: web packages
      - firewall: the firewall
      - file: /srv/apps/{{ app }}/releases
      - file: /var/lib/apps/{{ app }}
      - account: user of {{ app }}
      - account: installer of {{ app }}
{%- if 'builder' in pillar['host']['roles'] %}
      - build: build of {{ app }}
{%- endif %}

{% if 'web' in pillar['host']['roles'] %}
static files of {{ app }}:
  django.static_collected:
    - name: {{ app | json }}
    - require:
      - release: release of {{ app }}
      - file: /srv/apps/{{ app }}/static

database of {{ app }}:
  django.migrated:
    - name: {{ app | json }}
    - require:
      - release: release of {{ app }}

{{ app }} is served:
  release.active:
    - name: {{ app | json }}
    - require:
      - release: unit of {{ app }}
      - file: /run/apps/{{ app }}
      - file: /run/web/{{ app }}
      - django: static files of {{ app }}
      - django: database of {{ app }}
{% endif %}
{% endfor %}
