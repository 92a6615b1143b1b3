{#- Gives all hosts of an app its newest source at once, or none of them:
      salt-run state.orchestrate orch.deploy pillar='{"app": "demo"}'
    Until "in force", what served before runs on beside the new release; whatever fails before puts every host back. #}
{%- set app = pillar['app'] %}
{%- set hosts = pillar['app_hosts'] %}
{%- set steps = [
  ('installed', 'fleet.install', hosts['all']),
  ('migrated', 'fleet.migrate', hosts['web'][:1]),
  ('migrated for all', 'fleet.migrate', hosts['web'][1:]),
  ('started', 'fleet.start', hosts['all']),
  ('switched', 'fleet.switch', hosts['all']),
  ('seen by the edges', 'edge.sees', hosts['edge']),
] %}

{#- The builder is the only host that asks an index. #}
built:
  salt.function:
    - name: builder.propose
    - tgt: {{ hosts['builder'] | json }}
    - arg: [{{ app | json }}]

{%- set done = ['built'] %}
{%- for name, function, targets in steps if targets %}

{{ name }}:
  salt.function:
    - name: {{ function }}
    - tgt: {{ targets | json }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ app | json }}]
    - require:
      - salt: {{ done[-1] }}
{%- do done.append(name) %}
{%- endfor %}

{#- The one moment that decides: from here on, a host that was away learns that it shall serve the new release. #}
in force:
  salt.function:
    - name: builder.accept
    - tgt: {{ hosts['builder'] | json }}
    - arg: [{{ app | json }}]
    - require:
      - salt: {{ done[-1] }}

old release stopped:
  salt.function:
    - name: fleet.confirm
    - tgt: {{ hosts['all'] | json }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ app | json }}]
    - require:
      - salt: in force

every host put back:
  salt.function:
    - name: fleet.revert
    - tgt: {{ hosts['all'] | json }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ app | json }}]
    - onfail_any:
      {%- for name in done[1:] %}
      - salt: {{ name }}
      {%- endfor %}
      - salt: in force
