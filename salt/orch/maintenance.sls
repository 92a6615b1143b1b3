{#- Takes a web host out of the edges, lets it end its last request, works on it, and brings it back:
      salt-run state.orchestrate orch.maintenance pillar='{"host": "web1"}'
      salt-run state.orchestrate orch.maintenance pillar='{"host": "web1", "reboot": true}'
      salt-run state.orchestrate orch.maintenance pillar='{"host": "web1", "reboot": "due"}'
    The last one reboots it only when an update has asked for that (salt '*' updates.due).
    The work is to apply its states. Where that fails the host stays out, and the output says so. A host that was out
    before is brought in as well, when all has gone well. #}
{%- set host, hosts = pillar.get('host'), pillar['app_hosts'] %}
{%- if host not in hosts['web'] %}
{{ raise('name a web host: pillar=\'{"host": "..."}\', one of ' ~ (hosts['web'] | join(', '))) }}
{%- endif %}

out of the edges:
  salt.function:
    - name: edge.take_out
    - tgt: {{ hosts['edge'] | json }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ host | json }}]

{#- A host that does not answer is not taken for one that needs nothing. #}
{%- set reboot = pillar.get('reboot') %}
{%- if reboot == 'due' %}
{%- set told = salt['saltutil.cmd']([host], 'updates.reboot_due', tgt_type='list').get(host, {}) %}
{%- if told.get('retcode', 1) != 0 or told.get('ret') is not string %}
{{ raise(host ~ ' does not say whether a reboot is due') }}
{%- endif %}
{%- set reboot = told['ret'] %}
{%- endif %}
{%- if reboot %}

# In two seconds: it must answer first, and whoever waits for its return must wait already.
reboot:
  salt.function:
    - name: cmd.run
    - tgt: {{ host | json }}
    - expect_minions: True
    - arg: ['systemd-run --quiet --on-active=2s --timer-property=AccuracySec=100ms systemctl reboot']
    - require:
      - salt: out of the edges

back from the reboot:
  salt.wait_for_event:
    - name: salt/minion/*/start
    - id_list: {{ [host] | json }}
    - timeout: 300
    - require:
      - salt: reboot
    - require_in:
      - salt: states of {{ host }}
{%- endif %}

states of {{ host }}:
  salt.state:
    - tgt: {{ host | json }}
    - expect_minions: True
    - highstate: True
    - require:
      - salt: out of the edges

in the edges again:
  salt.function:
    - name: edge.bring_in
    - tgt: {{ hosts['edge'] | json }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ host | json }}]
    - require:
      - salt: states of {{ host }}

{%- set told, was_out = salt['saltutil.cmd'](hosts['edge'], 'edge.out', tgt_type='list'), [] %}
{%- for found in told.values() if host in (found.get('ret') or []) %}
{%- do was_out.append(host) %}
{%- endfor %}
{%- if not was_out %}

# An edge that had no other host to send requests to refused, and the others must not go on without this one.
nothing was done:
  salt.function:
    - name: edge.bring_in
    - tgt: {{ hosts['edge'] | json }}
    - tgt_type: list
    - arg: [{{ host | json }}]
    - onfail:
      - salt: out of the edges
{%- endif %}
