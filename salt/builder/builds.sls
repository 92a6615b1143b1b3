include:
  - builder.packages

/var/lib/saltern/builds:
  file.directory:
    - user: root
    - group: root
    - mode: "0755"
    - makedirs: True
{% for app in pillar['apps'] %}
build of {{ app }}:
  build.present:
    - name: {{ app | json }}
    - require:
      - pkg: builder packages
      - file: /var/lib/saltern/builds
{% endfor %}
