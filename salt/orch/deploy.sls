{#- Gives all hosts of an app its newest source and settings at once, or none of them:
      salt-run state.orchestrate orch.deploy pillar='{"app": "demo"}'
    The settings alone, with the build that serves, also after a rollback and whatever the source has become since:
      salt-run state.orchestrate orch.deploy pillar='{"app": "demo", "build": "same"}'
    Until "in force", what served before runs on beside the new release; whatever fails before puts every host back. #}
{%- from 'orch/together.jinja' import together with context %}
{%- set build = pillar.get('build', 'newest') %}
{%- from 'orch/refuse.jinja' import refuse %}
{%- if build not in ('newest', 'same') %}
{{ refuse('build: "' ~ build ~ '" is none; allowed: newest (or leave it out), same') }}
{%- elif build == 'same' %}
{{ together('builder.propose_same', 'fleet.install', migrates=True, asks=True) }}
{%- else %}
{{ together('builder.propose', 'fleet.install', migrates=True) }}
{%- endif %}
