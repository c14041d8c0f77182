"""Compares a certificate with what a host needs.

Ansible loads every filter anew for each task of each host, and `cryptography` takes longer than the rest of most tasks: the
functions that need it import it.
"""

import datetime
import ipaddress

from ansible.errors import AnsibleFilterError


def certificate_difference(text, ca_text, names, addresses, days):
    """Returns why a new certificate is needed, or an empty text."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509.oid import ExtensionOID

    try:
        ca = x509.load_pem_x509_certificate(ca_text.encode())
    except ValueError as error:
        raise AnsibleFilterError("the first of `tls_ca_certificates` is no PEM certificate: paste it from -----BEGIN CERTIFICATE----- on") from error
    try:
        certificate = x509.load_pem_x509_certificates(text.encode())[0]
    except (ValueError, IndexError):
        return "there is none"
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        return "another CA signed it"
    try:
        alternatives = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return "it has no names"
    has = set(alternatives.get_values_for_type(x509.DNSName))
    has |= {str(address) for address in alternatives.get_values_for_type(x509.IPAddress)}
    lacks = (set(names) | {str(ipaddress.ip_address(address)) for address in addresses}) - has
    if lacks:
        return "it lacks " + ", ".join(sorted(lacks))
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    if left < datetime.timedelta(days=days):
        return f"it ends in {left.days} days"
    return ""


def rotation_gap(present, authorities):
    """Returns what a node would miss between its present trust and the new one, or an empty text.

    `present` is what it trusts, followed by its own certificate.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    *trusted, own = x509.load_pem_x509_certificates(present.encode())
    wanted = [x509.load_pem_x509_certificate(text.encode()) for text in authorities]
    if wanted[0] not in trusted:
        return "does not trust the first of `tls_ca_certificates` yet: put the CA that signs now first, and the new one behind it, and run the playbook once before the new one signs"
    try:
        own.verify_directly_issued_by(wanted[0])
        return ""
    except (InvalidSignature, ValueError, TypeError):
        pass
    for authority in wanted:
        try:
            own.verify_directly_issued_by(authority)
            return ""
        except (InvalidSignature, ValueError, TypeError):
            continue
    return "has a certificate of a CA that is not in `tls_ca_certificates`: keep that one behind the new one until every node has a new certificate"


class FilterModule:
    """Filters for certificates."""

    def filters(self):
        return {"certificate_difference": certificate_difference, "rotation_gap": rotation_gap}
