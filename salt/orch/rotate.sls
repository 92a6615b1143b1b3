{#- Replaces a secret over the fleet: old and new are both good until nobody uses the old one. No request is lost:
      salt-run state.orchestrate orch.rotate pillar='{"app": "demo", "secret": "database"}'
      salt-run state.orchestrate orch.rotate pillar='{"secret": "ca"}'
    After a failure, or a kill anywhere, the same command goes on from there. It begins only where an apply of the hosts that
    compare the secret would change nothing else; "force": true begins all the same, and ends an old one that is used. "finish":
    true ends an old secret_key before its days are over. docs/secrets.md has the list. #}
{%- from 'orch/refuse.jinja' import refuse %}
{%- set app, secret = pillar.get('app'), pillar.get('secret') %}
{%- set force, finish = pillar.get('force', False), pillar.get('finish', False) %}
{%- set words, masters, behind, why, found = [app, secret] if app else [secret], [], [], [], [] %}
{%- for host, entry in pillar['fleet']['hosts'].items() if 'master' in entry.roles and 'minion' in entry.roles %}
{%- do masters.append(host) %}
{%- endfor %}
{%- if force is not boolean or finish is not boolean or secret is not string or not (app is none or app is string) %}
{%- do why.append('name a secret: pillar=\'{"app": "demo", "secret": "database"}\', or {"secret": "ca"}; with it "force" and "finish", true or false') %}
{%- elif not masters %}
{%- do why.append('the master must have role minion, too: it alone has the site') %}
{%- else %}
{%- set minions = pillar['ranks'] | sum(start=[]) %}
{%- set digests = salt['saltutil.cmd'](minions, 'code.digest', tgt_type='list') %}
{%- for host in minions if digests.get(host, {}).get('ret') != pillar['code'] %}
{%- do behind.append(host) %}
{%- endfor %}
{%- if behind %}
{%- do salt['saltutil.cmd'](behind, 'saltutil.sync_all', tgt_type='list') %}
{%- do salt['saltutil.cmd'](behind, 'saltutil.refresh_pillar', tgt_type='list', kwarg={'wait': True}) %}
{%- endif %}
{%- set said = salt['saltutil.cmd'](masters, 'rotation.course', arg=words, tgt_type='list', kwarg={'finish': finish}).get(masters[0], {}) %}
{%- if said.get('retcode', 1) != 0 or said.get('ret') is not mapping %}
{%- do why.append((said.get('ret') or masters[0] ~ ' does not answer its master') | replace('ERROR: ', '')) %}
{%- else %}
{%- do found.append(said['ret']) %}
{%- endif %}
{%- endif %}
{%- set course, app_hosts = found[0] if found else {'kind': none, 'state': none, 'applied': []}, pillar['app_hosts']['all'] %}
{#- Certificates are brought into force by states of their own, which change nothing else. #}
{%- set whole = course.kind not in ('tls', 'edge') %}
{#- What a killed one has asked for goes on without it, and a host that is at work takes no other order. #}
{%- do salt['saltutil.cmd'](course.applied, 'fleet.at_rest', tgt_type='list') if course.applied %}
{%- if course.state == 'settled' and whole and course.applied and not force %}
{%- set pending, plans = [], salt['saltutil.cmd'](course.applied, 'state.test', tgt_type='list') %}
{%- for host in course.applied %}
{%- set states = plans.get(host, {}).get('ret') %}
{%- if states is not mapping %}
{%- do pending.append(host ~ ' cannot be planned') %}
{%- else %}
{#- A builder makes the newest build, and gives it to nobody where hosts switch together. #}
{%- for id, state in states.items() if (state.result is not sameas true or state.changes)
      and not (id.startswith('build_|-') and app_hosts | length > 1) %}
{%- do pending.append(host ~ ': ' ~ state['__id__']) %}
{%- endfor %}
{%- endif %}
{%- endfor %}
{%- if pending %}
{%- do why.append('an apply would change more than the secret (' ~ (pending[:5] | join(', ')) ~ (' and others' if pending | length > 5 else '')
  ~ '): salt-run state.orchestrate orch.apply comes first; where that does not help, because somebody changes it again: "force": true') %}
{%- endif %}
{%- endif %}
{%- if why %}
{{- refuse(why[0]) }}
{%- else %}
{#- In the site's files; at the hosts; in the app's releases. #}
{%- set names = {
  'both': ('both are written down', 'both are good', 'the app has the new one'),
  'sign': ('the next one is to sign', 'the next one signs', ''),
  'out': ('the old one is crossed out', 'the old one is good nowhere', 'the app has only the new one'),
  'over': ('it is over', '', ''),
} %}
{%- set done = [] %}
{%- macro after() %}
{%- if done %}
    - require: [{salt: {{ done[-1] | json }}}]
{%- endif %}
{%- endmacro %}
{%- macro runs(name, orchestration, told) %}

{{ name }}:
  salt.runner:
    - name: state.orchestrate
    - mods: {{ orchestration }}
    - pillar: {{ told | json }}
    {{- after() }}
{%- do done.append(name) %}
{%- endmacro %}
{%- macro calls(name, function, targets, arguments, named) %}

{{ name }}:
  salt.function:
    - name: {{ function }}
    - tgt: {{ targets | json }}
    - tgt_type: list
    - expect_minions: True
    - arg: {{ arguments | json }}
    - kwarg: {{ named | json }}
    {{- after() }}
{%- do done.append(name) %}
{%- endmacro %}
{%- macro bring(move) %}
{%- if course.applied and whole %}
{{- runs(names[move][1], 'orch.apply', {'hosts': course.applied}) }}
{%- elif course.applied %}

{{ names[move][1] }}:
  salt.state:
    - tgt: {{ course.applied | json }}
    - tgt_type: list
    - expect_minions: True
    - sls: base.renewal
    {{- after() }}
{%- do done.append(names[move][1]) %}
{%- endif %}
{%- if move in course.releases and app_hosts %}
{{- runs(names[move][2], 'orch.deploy', {'app': app, 'build': 'same'}) }}
{%- endif %}
{%- endmacro %}
{#- Hosts that have switched, and were not told that all have, apply nothing: such a release goes on first. It is of the settings
    that are good already, or it would not have come so far. #}
{%- for name in pillar['apps'] if course.applied | select('in', app_hosts) | list %}
{%- set unconfirmed = [] %}
{%- for answer in salt['saltutil.cmd'](app_hosts, 'fleet.serves', arg=[name], tgt_type='list').values()
      if answer.get('retcode', 1) == 0 and answer['ret'].get('unconfirmed') and not answer['ret'].get('begun') %}
{%- do unconfirmed.append(name) %}
{%- endfor %}
{%- if unconfirmed %}
{{- runs('the release of ' ~ name ~ ' goes on', 'orch.deploy', {'app': name, 'build': 'same'}) }}
{%- endif %}
{%- endfor %}
{%- for move in course.moves %}
{%- if move == 'out' and course.asked and course.state != 'ending' %}
{{- calls('settings are brought', 'saltutil.refresh_pillar', course.asked, [], {'wait': True}) }}
{{- calls('nobody uses the old one', 'secretuse.gone', course.asked, [course.kind] + ([app] if app else []), {'force': force}) }}
{%- endif %}
{{- calls(names[move][0], 'rotation.move', masters, words, {'to': move, 'finish': finish}) }}
{%- if move != 'over' %}
{{- bring(move) }}
{%- endif %}
{%- endfor %}
{%- if course.asked %}
{{- calls('the old one is forgotten', 'saltutil.refresh_pillar', course.asked, [], {'wait': True}) }}
{%- endif %}
{%- endif %}
