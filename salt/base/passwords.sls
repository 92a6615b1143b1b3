{#- What holds for passwords, should somebody be given one; sshd takes none. The files are whole: pam-auth-update, which
    packages call, leaves files alone that it did not write, so what it would add for a session is in ours. #}

# Without the dictionary every password would be refused.
packages for passwords:
  pkg.installed:
    - install_recommends: False
    - pkgs:
      - cracklib-runtime
      - libpam-pwquality

{%- set files = {
  '/etc/security/pwquality.conf': 'pwquality.conf',
  '/etc/security/faillock.conf': 'faillock.conf',
  '/etc/pam.d/common-account': 'common-account',
  '/etc/pam.d/common-auth': 'common-auth',
  '/etc/pam.d/common-password': 'common-password',
  '/etc/pam.d/common-session': 'common-session',
} %}
{%- for path, source in files.items() %}

{{ path }}:
  file.managed:
    - source: salt://base/files/{{ source }}
    - user: root
    - group: root
    - mode: '0644'
    - require:
      - pkg: packages for passwords
{%- endfor %}

# A password that root were given has a year, as ANSSI wants it. That an old one keeps out no key is in common-account.
age of root's password:
  user.present:
    - name: root
    - maxdays: 365
    - date: -1
    - require:
      - file: /etc/pam.d/common-account
