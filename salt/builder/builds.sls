include:
  - builder.packages
  - builder.python

/var/lib/saltern/builds:
  file.directory:
    - user: root
    - group: root
    - mode: "0755"
    - makedirs: True
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
      - file: /var/lib/saltern/builds
{% endfor %}
