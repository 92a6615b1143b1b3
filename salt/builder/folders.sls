# Builds are read by root, and by the web server that hands them on to other hosts: never by another app's user.
{% for directory in [''] + (pillar['apps'] | list) %}
{{ ('/var/lib/saltern/builds/' ~ directory).rstrip('/') }}:
  file.directory:
    - user: root
    - group: www-data
    - mode: "0750"
    - makedirs: True
{% endfor %}
