{#- A host is its roles: one folder each. The fleet says which; see pillar/top.sls. A role that a host does not have, or
    no longer has, is stopped there; its data stay. #}
{#- A minion that has its master's very extensions is spared Salt's sync of them. One that has none yet cannot know. #}
{%- if opts['file_client'] == 'remote' and 'code.spare_sync' in salt %}
{%- do salt['code.spare_sync'](pillar['wiring']['minion']['code']) %}
{%- endif %}
base:
  {{ opts['id'] | json }}:
    {%- for role in pillar['host']['roles'] %}
    - {{ role | json }}
    {%- endfor %}
    {%- for role in pillar['host']['absent_roles'] %}
    - {{ (role ~ '.absent') | json }}
    {%- endfor %}
