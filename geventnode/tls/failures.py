"""Translate errors of ``ssl`` into those of this package.

The codes are Node's.
"""

from __future__ import annotations

import ssl

from geventnode.errors import CertificateError, TLSError

__all__ = ['PLAIN_HTTP', 'translate_error']

#: The code of the error for a client that sends HTTP without TLS.
PLAIN_HTTP = 'ERR_SSL_HTTP_REQUEST'

#: Node's codes for the errors of OpenSSL's verification (X509_V_ERR_*, x509_vfy.h), by number.
VERIFY_CODES = {
    2: 'UNABLE_TO_GET_ISSUER_CERT',
    7: 'CERT_SIGNATURE_FAILURE',
    9: 'CERT_NOT_YET_VALID',
    10: 'CERT_HAS_EXPIRED',
    18: 'DEPTH_ZERO_SELF_SIGNED_CERT',
    19: 'SELF_SIGNED_CERT_IN_CHAIN',
    20: 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
    21: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    22: 'CERT_CHAIN_TOO_LONG',
    23: 'CERT_REVOKED',
    24: 'INVALID_CA',
    25: 'PATH_LENGTH_EXCEEDED',
    26: 'INVALID_PURPOSE',
    27: 'CERT_UNTRUSTED',
    28: 'CERT_REJECTED',
    62: 'ERR_TLS_CERT_ALTNAME_INVALID',
    64: 'ERR_TLS_CERT_ALTNAME_INVALID',
}


def translate_error(error: BaseException, handshaking: bool, plain_http: str = '') -> BaseException:
    """Translate an error of ``ssl``, and return other errors unchanged.

    :param handshaking: whether the handshake was not over.
    :param plain_http: the kind of HTTP message that the peer has sent instead of a handshake, as in
        :attr:`geventnode.tls.engine.TLSEngine.plain_http`.
    """
    if not isinstance(error, ssl.SSLError):
        return error
    made: TLSError
    if isinstance(error, ssl.SSLCertVerificationError):
        message = error.verify_message.strip().rstrip('.')
        made = CertificateError(
            f'certificate of the peer refused: {message}', VERIFY_CODES.get(error.verify_code, 'CERT_REJECTED')
        )
    elif plain_http == 'request':
        made = TLSError('plain HTTP on a TLS port (its URL begins with https, not http)', PLAIN_HTTP)
    elif isinstance(error, ssl.SSLEOFError):
        made = TLSError(
            'the peer closed the connection ' + ('during the TLS handshake' if handshaking else 'without close_notify'),
            'ECONNRESET',
        )
    else:
        reason = error.reason or 'PROTOCOL_ERROR'
        failure = 'the TLS handshake failed' if handshaking else 'the TLS connection broke'
        hint = ' (the server speaks HTTP without TLS: the URL of that port begins with http)' if plain_http else ''
        made = TLSError(f'{failure}: {reason.replace("_", " ").lower()}{hint}', f'ERR_SSL_{reason}')
    made.__cause__ = error.with_traceback(None)
    return made
