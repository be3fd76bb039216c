//! Explains to people why a server was not trusted.
//!
//! Owns the sentences about TLS. It decides nothing: every failure described here happened before
//! any byte of ours was sent, and nothing ever falls back to plain HTTP.
//!
//! The certificate authorities are those of the platform. On Linux that is the bundle of the
//! distribution, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name instead of it. Behind a company's
//! proxy, name a bundle that also contains the company's authority.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError as Cert, Error as Tls};

/// Finds the TLS library's own error inside `error`.
pub(super) fn tls_fault<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Tls> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // The `source` of an I/O error skips the error that it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = wrapped.and_then(|wrapped| tls_fault(wrapped)) {
            return Some(tls);
        }
        next = error.source();
    }
    None
}

/// Returns a short phrase that says why `host` was not trusted.
pub(super) fn untrusted_message(fault: &Tls, host: &str) -> String {
    let clock = "or this machine's clock is wrong";
    match fault {
        Tls::InvalidCertificate(Cert::Expired) => {
            format!("the certificate of {host} has expired ({clock})")
        }
        Tls::InvalidCertificate(Cert::ExpiredContext { not_after, .. }) => {
            format!(
                "the certificate of {host} expired on {} ({clock})",
                format_day(not_after.as_secs())
            )
        }
        Tls::InvalidCertificate(Cert::NotValidYet) => {
            format!("the certificate of {host} is not valid yet ({clock})")
        }
        Tls::InvalidCertificate(Cert::NotValidYetContext { not_before, .. }) => format!(
            "the certificate of {host} is valid only from {} on ({clock})",
            format_day(not_before.as_secs())
        ),
        Tls::InvalidCertificate(Cert::NotValidForName | Cert::NotValidForNameContext { .. }) => {
            format!("the certificate of {host} is for another name")
        }
        // An authority with the same name but another key causes a bad signature.
        Tls::InvalidCertificate(Cert::UnknownIssuer | Cert::BadSignature) => format!(
            "the certificate of {host} is from an authority that this machine does not trust \
             (behind a company's proxy, point SSL_CERT_FILE at a bundle that contains its \
             authority too)"
        ),
        Tls::InvalidCertificate(Cert::Revoked) => {
            format!("the certificate of {host} was revoked")
        }
        Tls::InvalidCertificate(reason) => {
            format!("the certificate of {host} is not valid ({reason})")
        }
        Tls::PeerIncompatible(_)
        | Tls::AlertReceived(
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
        ) => format!("{host} does not support a secure version of TLS (1.2 or 1.3): {fault}"),
        Tls::InvalidMessage(_) => {
            format!("{host} does not speak TLS on this port; nothing was sent ({fault})")
        }
        fault => format!("no trusted connection to {host} ({fault})"),
    }
}

/// Returns the day of a time in Unix seconds.
fn format_day(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    at.map_or_else(|| format!("second {seconds}"), |at| at.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_error_is_found_beneath_wrappers_and_named_in_words() {
        let expired = Tls::InvalidCertificate(Cert::Expired);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, expired));
        let found = tls_fault(&wrapped).expect("it is in there");
        assert!(untrusted_message(found, "api.example").contains("api.example has expired"));
        assert!(tls_fault(&io::Error::other("something else")).is_none());
        assert_eq!(format_day(86_400), "1970-01-02");
    }
}
