include:
  - builder.packages
  - builder.python
  - builder.folders
  - builder.users
  - base.firewall

{% for app, settings in pillar['apps'].items() %}
{%- if settings['packages']['build'] %}
build packages of {{ app }}:
  pkg.installed:
    - pkgs: {{ settings['packages']['build'] | json }}
    - install_recommends: False
    - require_in:
      - build: build of {{ app }}
{% endif %}
build of {{ app }}:
  build.present:
    - name: {{ app | json }}
    - require:
      - pkg: builder packages
      - firewall: the firewall
      - file: /var/lib/saltern/builds/{{ app }}
      - account: build user of {{ app }}
      - file: /var/lib/saltern/workshops
{% endfor %}
