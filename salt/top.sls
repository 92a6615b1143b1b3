{#- A host is its roles: one folder each. The fleet says which; see pillar/top.sls. #}
base:
  {{ opts['id'] | json }}:
    {%- for role in pillar['host']['roles'] %}
    - {{ role | json }}
    {%- endfor %}
