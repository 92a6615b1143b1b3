{#- The edges send no more requests to the web hosts that do not answer the master now; orch.deploy calls it.
    Bring one back when it is well again:  salt -L EDGES edge.bring_in HOST #}
{%- set hosts = pillar['app_hosts'] %}
{%- set there = salt['saltutil.runner']('manage.up', tgt=hosts['web'], tgt_type='list') %}
{%- for host in hosts['web'] if host not in there %}

{{ host }} is left out:
  salt.function:
    - name: edge.take_out
    - tgt: {{ hosts['edge'] | json }}
    - tgt_type: list
    - expect_minions: True
    - arg: [{{ host | json }}]
{%- else %}

all web hosts answer:
  test.nop: []
{%- endfor %}
