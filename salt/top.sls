{#- A host is its roles: one folder each. The fleet says which; see pillar/top.sls. A role that a host does not have, or
    no longer has, is stopped there; its data stay. #}
base:
  {{ opts['id'] | json }}:
    {%- for role in pillar['host']['roles'] %}
    - {{ role | json }}
    {%- endfor %}
    {%- for role in pillar['host']['absent_roles'] %}
    - {{ (role ~ '.absent') | json }}
    {%- endfor %}
