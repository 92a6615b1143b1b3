{#- AppArmor is the kernel's. A container has that of its machine, and cannot load profiles of its own. #}
{%- from 'base/container.jinja' import in_container with context %}
{%- set enabled = '/sys/module/apparmor/parameters/enabled' %}
{%- set on = salt['file.file_exists'](enabled) and salt['file.read'](enabled).strip() == 'Y' %}
{%- if in_container or not on %}

AppArmor:
  test.show_notification:
    - text: {{ ('not here: ' ~ ('a container has what its machine gives it' if in_container else 'this kernel has none, or was started without')) | json }}
{%- else %}

apparmor:
  pkg.installed:
    - install_recommends: False

apparmor.service:
  daemon.running:
    - inputs: []
    - require:
      - pkg: apparmor
{%- endif %}
