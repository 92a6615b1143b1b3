{#- A container may change few settings or none. Which ones is asked of the kernel, here, so that a plan knows it too. #}
{%- set allowed = {} %}
{%- set refused = [] %}
{%- for key, value in pillar['base']['sysctl'] | dictsort %}
  {%- if salt['file.access']('/proc/sys/' ~ key | replace('.', '/'), 'w') %}
    {%- do allowed.update({key: value}) %}
  {%- else %}
    {%- do refused.append(key) %}
  {%- endif %}
{%- endfor %}

/etc/sysctl.d/60-saltern.conf:
  file.managed:
    - source: salt://base/files/sysctl.conf
    - template: jinja
    - user: root
    - group: root
    - mode: '0644'
    - context:
        allowed: {{ allowed | json }}
        refused: {{ refused | json }}

{%- if allowed %}

systemd-sysctl.service:
  daemon.running:
    - enable: False
    - inputs:
      - /etc/sysctl.d/60-saltern.conf
    - watch:
      - file: /etc/sysctl.d/60-saltern.conf
{%- endif %}
