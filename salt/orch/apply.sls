{#- The whole fleet, or some of its hosts, in the order in which they need each other:
      salt-run state.orchestrate orch.apply
      salt-run state.orchestrate orch.apply pillar='{"hosts": ["web1"], "plan": true}'
    A rank begins when the one before is right; hosts of one rank are applied at the same time. #}
{%- set only = pillar.get('hosts', []) %}
{%- set before = [] %}
{%- for rank in pillar['ranks'] %}
{%- set chosen = rank | select('in', only) | list if only else rank %}
{%- if chosen %}
{{ chosen | join(', ') | json }}:
  salt.state:
    - tgt: {{ chosen | json }}
    - tgt_type: list
    - highstate: True
    - test: {{ pillar.get('plan', False) | json }}
    {%- if before %}
    - require:
      - salt: {{ before[-1] | json }}
    {%- endif %}
{%- do before.append(chosen | join(', ')) %}
{%- endif %}
{%- endfor %}
{%- if not before %}
{{ raise('none of these hosts has role minion: ' ~ (only | join(', '))) }}
{%- endif %}
{%- if not pillar.get('plan') %}

what nobody needs any more:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.settle
    {%- if before %}
    - require:
      - salt: {{ before[-1] | json }}
    {%- endif %}
{%- endif %}
