"""What a client may not say about itself: one list, of which both proxies' configuration and the tests are made.

A header of these tells an app who its visitor is, where the visitor comes from, or what was asked for in truth. Proxies
write such headers, so apps, frameworks and middlewares believe them. Ours are the only proxies here: what a client
sends of them is taken away at the edge, and once more by nginx. `OURS` are set anew, from what was seen.
"""

from __future__ import annotations

# Set by the edge and by nginx, whatever a client sent.
OURS = (
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "X-Request-ID",
)
# Whole families: every header whose name begins so.
FAMILIES = (
    "CF-",  # Cloudflare
    "Client-",  # Client-IP; Client-Cert and -Cert-Chain of RFC 9440
    "CloudFront-",
    "DO-Connecting-",  # DigitalOcean
    "Fastly-",
    "Fly-",
    "Forwarded",  # RFC 7239; -For, -Host ... of old proxies
    "Incap-",  # Imperva
    "OIDC-",  # mod_auth_openidc: OIDC_CLAIM_email to WSGI
    "Proxy",  # httpoxy; -Authorization, -Connection, -User
    "Remote-",  # REMOTE_ADDR, _HOST, _USER of CGI
    "Shib-",  # Shibboleth
    "SSL-",
    "Tailscale-",
    "WL-Proxy-",  # WebLogic
    "X-Accel-",
    "X-Amzn-",
    "X-AppEngine-",
    "X-Appgw-",
    "X-ARR-",
    "X-Auth-Request-",
    "X-Authenticated-",
    "X-Authentik-",
    "X-Azure-",
    "X-Client-",
    "X-Cluster-",
    "X-Consumer-",  # Kong
    "X-Credential-",
    "X-Envoy-",
    "X-Forward",  # X-Forwarded-*, X-Forwarded, X-Forward-For
    "X-Goog-Authenticated-",
    "X-Goog-IAP-",
    "X-MS-Client-Principal",
    "X-Nf-",  # Netlify
    "X-Original-",
    "X-Originating-",
    "X-Pomerium-",
    "X-Proxy",
    "X-Real-",
    "X-Remote-",
    "X-Rewrite-",
    "X-Sendfile-",
    "X-SSL",
    "X-TLS-",
    "X-Vercel-",
    "X-Webauth-",
)
# Single ones.
NAMES = (
    "Front-End-Https",
    "Path-Info",
    "Script-Name",
    "True-Client-IP",
    "Via",
    "X-Auth-Email",  # singly, for X-Auth-Token is what a client may say
    "X-Auth-Groups",
    "X-Auth-Name",
    "X-Auth-User",
    "X-Auth-Username",
    "X-Host",
    "X-HTTP-Method",  # another method than the one that is seen here: a GET may be asked of two hosts, a DELETE not
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Path-Info",
    "X-Request-ID",
    "X-Scheme",
    "X-Script-Name",
    "X-Url-Scheme",
)
# The members of the families that apps are known to believe. nginx takes headers away by their whole names only.
MEMBERS = (
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "CF-IPCountry",
    "CF-Visitor",
    "Client-Cert",
    "Client-Cert-Chain",
    "Client-IP",
    "CloudFront-Forwarded-Proto",
    "CloudFront-Viewer-Address",
    "CloudFront-Viewer-Country",
    "DO-Connecting-IP",
    "Fastly-Client-IP",
    "Fastly-SSL",
    "Fly-Client-IP",
    "Fly-Forwarded-Port",
    "Fly-Forwarded-Proto",
    "Forwarded",
    "Forwarded-For",
    "Forwarded-For-IP",
    "Forwarded-Host",
    "Forwarded-Proto",
    "Incap-Client-IP",
    "OIDC-Claim-Email",
    "OIDC-Claim-Groups",
    "OIDC-Claim-Preferred-Username",
    "OIDC-Claim-Sub",
    "Proxy",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Proxy-User",
    "Remote-Addr",
    "Remote-Groups",
    "Remote-Host",
    "Remote-User",
    "Shib-Identity-Provider",
    "Shib-Session-ID",
    "SSL-Client-Cert",
    "SSL-Client-S-DN",
    "SSL-Client-Verify",
    "Tailscale-User-Login",
    "Tailscale-User-Name",
    "Tailscale-User-Profile-Pic",
    "WL-Proxy-Client-Cert",
    "WL-Proxy-Client-IP",
    "WL-Proxy-SSL",
    "X-Accel-Buffering",
    "X-Accel-Internal",
    "X-Accel-Mapping",
    "X-Accel-Redirect",
    "X-Amzn-Oidc-Data",
    "X-Amzn-Oidc-Identity",
    "X-AppEngine-User-IP",
    "X-Appgw-Trace-Id",
    "X-ARR-ClientCert",
    "X-ARR-SSL",
    "X-Auth-Request-Email",
    "X-Auth-Request-User",
    "X-Authenticated-User",
    "X-Authentik-Email",
    "X-Authentik-Groups",
    "X-Authentik-Jwt",
    "X-Authentik-Name",
    "X-Authentik-Uid",
    "X-Authentik-Username",
    "X-Azure-ClientIP",
    "X-Azure-SocketIP",
    "X-Client-Cert",
    "X-Client-DN",
    "X-Client-IP",
    "X-Client-Verify",
    "X-Cluster-Client-IP",
    "X-Consumer-Custom-ID",
    "X-Consumer-Groups",
    "X-Consumer-ID",
    "X-Consumer-Username",
    "X-Credential-Identifier",
    "X-Credential-Username",
    "X-Envoy-External-Address",
    "X-Envoy-Original-Path",
    "X-Forward-For",
    "X-Forwarded",
    "X-Forwarded-By",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Email",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Path",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-Forwarded-Protocol",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-SSL",
    "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Uri",
    "X-Forwarded-User",
    "X-Goog-Authenticated-User-Email",
    "X-Goog-IAP-JWT-Assertion",
    "X-MS-Client-Principal",
    "X-MS-Client-Principal-Name",
    "X-Nf-Account-ID",
    "X-Nf-Client-Connection-IP",
    "X-Original-For",
    "X-Original-Forwarded-For",
    "X-Original-Host",
    "X-Original-Method",
    "X-Original-Proto",
    "X-Original-To",
    "X-Original-URI",
    "X-Original-URL",
    "X-Originating-IP",
    "X-Pomerium-Claim-Email",
    "X-Pomerium-Claim-Groups",
    "X-Pomerium-Claim-User",
    "X-Pomerium-Jwt-Assertion",
    "X-Proxy-User",
    "X-ProxyUser-IP",
    "X-Real-Host",
    "X-Real-IP",
    "X-Real-Port",
    "X-Remote-Addr",
    "X-Remote-Group",
    "X-Remote-IP",
    "X-Remote-User",
    "X-Rewrite-URL",
    "X-Sendfile-Type",
    "X-SSL",
    "X-SSL-CERT",
    "X-SSL-Client-Cert",
    "X-SSL-Client-S-DN",
    "X-SSL-Client-Verify",
    "X-TLS-Client-Cert",
    "X-Vercel-Forwarded-For",
    "X-Vercel-IP-Country",
    "X-Vercel-Proxied-For",
    "X-Webauth-User",
)


def at_the_edge() -> list[dict[str, str]]:
    """Return what HAProxy deletes: `name` and `match`, its way to compare (`beg`, `sub` or `str`).

    A name with an underscore is none that a browser sends, and WSGI cannot tell `X_Real_IP` from `X-Real-IP`.

    Example:
        >>> at_the_edge()[0]
        {'name': '_', 'match': 'sub'}
    """
    families = [{"name": name.lower(), "match": "beg"} for name in FAMILIES]
    return [{"name": "_", "match": "sub"}, *families, *({"name": name.lower(), "match": "str"} for name in NAMES)]


def by_nginx() -> list[str]:
    """Return the names of the headers that nginx does not pass on; those of `OURS` it sets itself.

    Example:
        >>> "Forwarded" in by_nginx(), "X-Real-IP" in by_nginx()
        (True, False)
    """
    return sorted({*NAMES, *MEMBERS} - {*OURS})


def examples() -> list[str]:
    """Return names of headers that no app may ever see from a client, for tests: known ones, and ones nobody knows.

    Example:
        >>> "CloudFront-Anything" in examples()
        True
    """
    unknown = [f"{family.rstrip('-')}-Anything" for family in FAMILIES]
    return sorted({*OURS, *NAMES, *MEMBERS, *unknown})
