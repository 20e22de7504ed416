//! From host names to addresses, without the runtime waiting for a slow name server. Nothing is connected here.

use std::net::{IpAddr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::address::HostPort;
use super::detached;
use super::link::{LinkError, LinkErrorKind};

/// How long a name may take: what resolvers need to try two servers twice.
const LIMIT: Duration = Duration::from_secs(20);

/// Every address of `place`, in the system's order of preference; never empty. IP addresses are not looked up.
pub(super) async fn resolve(place: &HostPort) -> Result<Vec<SocketAddr>, LinkError> {
    if let Ok(ip) = place.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, place.port)]);
    }
    let (host, port) = (place.host.clone(), place.port);
    let found = detached::run(&format!("resolve {}", place.host), LIMIT, move || {
        (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>)
    })
    .await?;
    let unknown = |why: String, source| LinkError {
        kind: LinkErrorKind::Unreachable,
        message: format!("expected an address for `{}`, got none: {why}", place.host),
        help: "check the name, or write the address".to_owned(),
        source,
    };
    match found {
        Ok(addresses) if addresses.is_empty() => Err(unknown("the name has no address".to_owned(), None)),
        Ok(addresses) => Ok(addresses.into_iter().map(normal).collect()),
        Err(error) => Err(unknown(error.to_string(), Some(Arc::new(error)))),
    }
}

/// The form in which addresses are compared: without flow label, which peers set as they like.
pub(super) fn normal(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_look_up() {
        let place = HostPort { host: "::1".to_owned(), port: 7 };
        assert_eq!(resolve(&place).await.unwrap(), ["[::1]:7".parse().unwrap()]);
    }

    #[tokio::test]
    async fn a_name_without_address_is_unreachable() {
        // No label may be longer than 63 bytes (RFC 1035, 2.3.4), so no name server is asked.
        let place = HostPort { host: "x".repeat(64), port: 7 };
        let error = resolve(&place).await.unwrap_err();
        assert_eq!(error.kind, LinkErrorKind::Unreachable);
        assert!(error.message.contains("xxxx"), "{error}");
    }
}
