# An app that asks for a Python which this host has not: told in one sentence, before anything else is done.
{% for app, settings in pillar['apps'].items() %}
{%- set problem = salt['build.python_missing'](app, settings['python']) %}
{%- if problem %}
python of {{ app }}:
  test.fail_without_changes:
    - comment: {{ problem | json }}
    - order: first
    - failhard: True
{% endif %}
{%- endfor %}
