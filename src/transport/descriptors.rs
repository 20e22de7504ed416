//! How many files, ports and sockets this process may have open at once. Who opens them is not known here.

use crate::cause::{Cause, Class};

/// What a run has open besides its devices: logs, reports, the runtime's own, and what its programs and the system's libraries
/// need for a moment.
const RESERVE: usize = 64;

/// How many descriptors this process may have; `None` where there is no such limit, or nobody says.
#[must_use]
pub fn descriptor_limit() -> Option<usize> {
    #[cfg(unix)]
    {
        use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
        let (soft, _hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        (soft != RLIM_INFINITY).then(|| usize::try_from(soft).unwrap_or(usize::MAX))
    }
    #[cfg(not(unix))]
    None
}

/// Lets this process have as many descriptors as the system's administrator allows: most systems give a process 1024 at first,
/// for the sake of old programs.
pub fn raise_descriptor_limit() {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < hard
        {
            // Where the system allows no more, the limit stays what it was.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
    }
}

/// Whether links that need so many descriptors at once can all be open.
///
/// # Errors
/// `station.too_many_links`, where `limit` is too low.
pub fn enough_descriptors(needed: usize, limit: Option<usize>) -> Result<(), Cause> {
    match limit {
        Some(limit) if needed.saturating_add(RESERVE) > limit => Err(Cause::new(
            Class::Station,
            "station.too_many_links",
            format!(
                "expected room for {needed} links at once, got a limit of {limit} open files, {RESERVE} of which are needed \
                 otherwise"
            ),
            "raise the limit (`ulimit -n`, or LimitNOFILE of the service), or run fewer devices at once: several targets with \
             `--only`, or `parallel` for devices that the plan names",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_let_through_and_what_does_not_is_told() {
        assert_eq!(enough_descriptors(960, Some(1024)), Ok(()));
        assert_eq!(enough_descriptors(1_000_000, None), Ok(()));
        let cause = enough_descriptors(961, Some(1024)).unwrap_err();
        assert_eq!(cause.code, "station.too_many_links");
        assert!(cause.message.contains("961") && cause.message.contains("1024"), "{cause}");
        assert!(enough_descriptors(usize::MAX, Some(1024)).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        use nix::sys::resource::{Resource, getrlimit};
        raise_descriptor_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
    }
}
