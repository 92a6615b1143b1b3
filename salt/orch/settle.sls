{#- Takes away what hosts grant to others and the site does not want any more, each as soon as nobody uses it:
      salt-run state.orchestrate orch.settle
      salt-run state.orchestrate orch.settle pillar='{"plan": true}'
    orch.apply, orch.deploy, orch.rollback and orch.remove_host end with it. A host that runs apps is asked what runs
    there; one that does not answer is not taken for one that needs nothing. It also names the apps whose new settings
    wait for a release. docs/fleets.md has more. #}
{%- set minions = pillar['ranks'] | sum(start=[]) %}
{#- They would answer by the pillar that they have in memory. #}
{%- do salt['saltutil.cmd'](minions, 'saltutil.refresh_pillar', tgt_type='list', kwarg={'wait': True}) %}
{%- set told = salt['saltutil.cmd'](minions, 'needs.kept', tgt_type='list') %}
{%- set keeping, silent = [], [] %}
{%- for host in minions %}
{%- if told.get(host, {}).get('retcode', 1) != 0 %}
{%- do silent.append(host) %}
{%- elif told[host]['ret'] %}
{%- do keeping.append(host) %}
{%- endif %}
{%- endfor %}
{#- Hosts say what they like: their words are cut, and go no further than into a sentence. #}
{%- set held, unknown = {}, {'*': ['it does not say what it runs']} %}
{%- if keeping %}
{%- set asked = salt['saltutil.cmd'](pillar['app_hosts']['all'], 'needs.held', tgt_type='list') if pillar['app_hosts']['all'] else {} %}
{%- for host in pillar['app_hosts']['all'] %}
{%- set said = asked.get(host, {}) %}
{%- if said.get('retcode', 1) != 0 or said.get('ret') is not mapping %}
{%- do held.update({host: unknown}) %}
{%- elif said['ret'] %}
{%- set apps = {} %}
{%- for app, why in said['ret'].items() if app is match('[a-z0-9-]+$') %}
{%- do apps.update({app: [(why | join(', '))[:200]]}) %}
{%- endfor %}
{%- do held.update({host: apps}) %}
{%- endif %}
{%- endfor %}
{%- endif %}
{%- set answers = salt['saltutil.cmd'](keeping, 'needs.settling', tgt_type='list', kwarg={'elsewhere': held}) if keeping else {} %}
{%- set going, stays = [], [] %}
{%- for host in keeping %}
{%- set said = answers.get(host, {}) %}
{%- if said.get('retcode', 1) != 0 or said.get('ret') is not mapping %}
{%- do stays.append(host ~ ' does not say what it still grants') %}
{%- else %}
{%- if said['ret']['going'] %}{% do going.append(host) %}{% endif %}
{%- if said['ret']['kept'] %}
{%- do stays.append(host ~ ' still grants: ' ~ (said['ret']['kept'] | join('; '))[:300] ~ '. Who may use it: ' ~ (said['ret']['why'] | join('; '))[:300]) %}
{%- endif %}
{%- endif %}
{%- endfor %}
{%- if silent %}

{{ ('not asked what they still grant, for they do not answer: ' ~ (silent | join(', ')))[:800] | json }}:
  test.nop: []
{%- endif %}
{%- for sentence in stays %}

{#- A key of YAML ends at 1,024 characters. #}
{{ (sentence ~ '. It ends when those have stopped (orch.deploy, an apply of their host, release.unpin) and orch.settle runs again')[:900] | json }}:
  test.nop: []
{%- endfor %}
{%- if going %}

what nobody needs any more is taken away:
  salt.state:
    - tgt: {{ going | json }}
    - tgt_type: list
    - expect_minions: True
    - sls: [base.settled]
    - test: {{ pillar.get('plan', False) | json }}
    - pillar: {{ {'held_elsewhere': held} | json }}
{%- elif not stays and not silent %}

nothing is granted that the site does not want:
  test.nop: []
{%- endif %}
{%- set waiting = [] %}
{%- set asked = salt['saltutil.cmd'](pillar['app_hosts']['all'], 'fleet.waiting', tgt_type='list') if pillar['app_hosts']['all'] else {} %}
{%- for said in asked.values() if said.get('retcode', 1) == 0 and said['ret'] is iterable and said['ret'] is not string %}
{%- for app in said['ret'] if app in pillar['apps'] and app not in waiting %}
{%- do waiting.append(app) %}
{%- endfor %}
{%- endfor %}
{%- for app in waiting | sort %}

{{ (app ~ ' serves with settings of before; the new ones: salt-run state.orchestrate orch.deploy pillar=\'{"app": "' ~ app ~ '", "build": "same"}\'') | json }}:
  test.nop: []
{%- endfor %}
