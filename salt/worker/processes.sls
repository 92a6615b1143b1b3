include:
  - web.apps

no other app has processes here:
  processes.only:
    - apps: {{ pillar['apps'] | list | json }}
{% for app in pillar['apps'] %}
processes of {{ app }}:
  processes.running:
    - name: {{ app | json }}
    - require:
      - release: release of {{ app }}
{%- if 'web' in pillar['host']['roles'] %}
      - release: {{ app }} is served
{%- endif %}
{% endfor %}
