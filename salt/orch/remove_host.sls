{#- Takes a host out of the fleet, when it is not in fleet.yaml any more but runs still (or is gone already):
      salt-run state.orchestrate orch.remove_host pillar='{"host": "web3"}'
    The edges send it nothing new and wait for its last answers; an edge gives up the shared address and ends its own. Its
    background work ends, all others forget it, and at last, when nothing is granted to it any more, the master forgets
    its key. Then the machine may be turned off. #}
{%- set host, edges = pillar.get('host', ''), pillar['app_hosts']['edge'] %}
{%- if not host | regex_match('([a-z0-9-]+)$') %}
{{ raise('name the host: pillar=\'{"host": "..."}\'') }}
{%- elif host in pillar['fleet']['hosts'] %}
{{ raise(host ~ ' is in site/fleet.yaml: take it out there first') }}
{%- endif %}
{%- set done = [] %}
{%- if edges %}

out of the edges:
  salt.function:
    - name: edge.take_out
    - tgt: {{ edges | json }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ host | json }}]
    - kwarg: {may_be_unknown: True}
{%- do done.append('out of the edges') %}
{%- endif %}
{%- if salt['saltutil.runner']('manage.up', tgt=host, tgt_type='list') %}

it is no edge any more:
  salt.function:
    - name: edge.leave
    - tgt: {{ host | json }}
    - expect_minions: True
    {%- if done %}
    - require: [{salt: {{ done[-1] }}}]
    {%- endif %}

its apps stop:
  salt.function:
    - name: processes.remove_all
    - tgt: {{ host | json }}
    - expect_minions: True
    - require: [{salt: it is no edge any more}]
{%- do done.append('its apps stop') %}
{%- endif %}
{#- The edges first: they are the only ones that look for it. #}
{%- for rank in pillar['ranks'] | reverse %}

{{ rank | join(', ') }} forget it:
  salt.state:
    - tgt: {{ rank | json }}
    - tgt_type: list
    - expect_minions: True
    - highstate: True
    {%- if done %}
    - require: [{salt: {{ done[-1] | json }}}]
    {%- endif %}
{%- do done.append((rank | join(', ')) ~ ' forget it') %}
{%- endfor %}

{%- if edges %}

nothing is left of it in the edges:
  salt.function:
    - name: edge.forget
    - tgt: {{ edges | json }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ host | json }}]
    - require: [{salt: {{ done[-1] | json }}}]
{%- do done.append('nothing is left of it in the edges') %}
{%- endif %}

what nobody needs any more:
  salt.runner:
    - name: state.orchestrate
    - mods: orch.settle
    - require: [{salt: {{ done[-1] | json }}}]

nothing is granted to it:
  salt.function:
    - name: needs.forgotten
    - tgt: {{ pillar['ranks'] | sum(start=[]) | json }}
    - tgt_type: list
    - expect_minions: True
    - require: [{salt: what nobody needs any more}]
{%- do done.append('nothing is granted to it') %}

its key is deleted:
  salt.wheel:
    - name: key.delete_dict
    - match: {minions: [{{ host | json }}]}
    - require: [{salt: {{ done[-1] | json }}}]
