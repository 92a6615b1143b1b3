{#- Puts another machine in the place of a web host or a worker, under the same id; its address may be another one. The
    new machine runs, and the master has its key instead of the old one's; the old machine may be gone or run on:
      salt-run state.orchestrate orch.replace_host pillar='{"host": "web1"}'
    Hosts of other roles hold data, or are what all others depend on. #}
{%- from 'orch/joining.jinja' import joining, must_be_in_the_fleet with context %}
{{- must_be_in_the_fleet() }}
{%- set host = pillar['host'] %}
{%- set other = pillar['fleet']['hosts'][host]['roles'] | reject('in', ['base', 'minion', 'web', 'worker']) | list %}
{%- if other %}
{{ raise(host ~ ' has role ' ~ (other | join(', ')) ~ '; orch.replace_host is for hosts that have only web or worker') }}
{%- endif %}
{{ joining(host) }}
