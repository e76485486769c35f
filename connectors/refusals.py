"""What TLS refuses, found in the errors of libraries that wrap it, and what key each speaks of."""

import ssl
from collections.abc import Iterator

NO_REFUSAL = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)  # the connection broke, for any reason
HOST_NAMES = {62, 64}  # OpenSSL's numbers of: the certificate is for another name, for another address


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was made of: its arguments, its causes."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, BaseException) and id(part) not in seen:
            seen.add(id(part))
            yield part
            waiting += [*part.args, part.__cause__, part.__context__]


def of_tls(error: BaseException) -> Exception | None:
    """Why there will be no connection however often it is tried; None if that may change."""
    for part in chain(error):
        if isinstance(part, ssl.SSLError) and not isinstance(part, NO_REFUSAL):
            return part
        if isinstance(part, FileNotFoundError | PermissionError):
            return part
    return None


def subject(refusal: Exception) -> str:
    """What the refusal speaks of, in the words of `[log.security]`."""
    if isinstance(refusal, ssl.SSLCertVerificationError):
        return "check_hostname" if refusal.verify_code in HOST_NAMES else "ca_file"
    if isinstance(refusal, ssl.SSLError) and "ALERT" in (refusal.reason or ""):
        return "certificate_file"
    return "tls"
