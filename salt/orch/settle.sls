{#- Takes away what hosts grant to others and the site does not want any more, when no host uses it:
      salt-run state.orchestrate orch.settle
    orch.apply, orch.deploy, orch.rollback and orch.remove_host end with it. A host that runs apps is asked what runs
    there; one that does not answer is not taken for one that needs nothing. docs/fleets.md has more. #}
{%- set minions = pillar['ranks'] | sum(start=[]) %}
{#- They would answer by the pillar that they have in memory. #}
{%- do salt['saltutil.cmd'](minions, 'saltutil.refresh_pillar', tgt_type='list', kwarg={'wait': True}) %}
{%- set told = salt['saltutil.cmd'](minions, 'needs.kept', tgt_type='list') %}
{%- set keeping = [] %}
{%- for host in minions if told.get(host, {}).get('retcode', 1) == 0 and told[host]['ret'] %}
{%- do keeping.append(host) %}
{%- endfor %}
{%- set holding = [] %}
{%- if keeping %}
{%- set asked = salt['saltutil.cmd'](pillar['app_hosts']['all'], 'needs.held', tgt_type='list') if pillar['app_hosts']['all'] else {} %}
{%- for host in pillar['app_hosts']['all'] %}
{%- set said = asked.get(host, {}) %}
{%- if said.get('retcode', 1) != 0 or said.get('ret') is not mapping %}
{%- do holding.append(host ~ ' does not say what it runs') %}
{%- elif said['ret'] %}
{%- do holding.append((host ~ ': ' ~ (said['ret'] | json))[:300]) %}
{%- endif %}
{%- endfor %}
{%- endif %}
{%- if not keeping %}

nothing is granted that the site does not want:
  test.nop: []
{%- elif holding %}

{#- A key of YAML ends at 1,024 characters, and hosts say what they like. #}
{{ ((keeping | join(', ')) ~ ' grant what the site does not want any more, as long as somebody uses it: ' ~ (holding | join('. ')))[:800] | json }}:
  test.nop: []
{%- else %}

what nobody needs any more is taken away:
  salt.state:
    - tgt: {{ keeping | json }}
    - tgt_type: list
    - expect_minions: True
    - highstate: True
    - test: {{ pillar.get('plan', False) | json }}
    - pillar: {applied_everywhere: true}
{%- endif %}
