# Nobody's code but ours runs as root: each app is fetched and built as a user of its own, who runs nothing else.
/var/lib/saltern/workshops:
  file.directory:
    - user: root
    - group: root
    - mode: "0755"
    - makedirs: True

no other app is built here:
  build.only:
    - apps: {{ pillar['apps'] | list | json }}
{% for app in pillar['apps'] %}
build user of {{ app }}:
  account.service:
    - name: {{ salt['build.build_user'](app) | json }}
{% endfor %}
