//! The names that a stub resolver tries (resolv.conf(5), `search` and `ndots`).

use super::RequestError;
use crate::wire::Name;

/// `ndots` of pods (`dnsPolicy: ClusterFirst`): names with fewer dots are tried with the search list first.
pub const NDOTS: usize = 5;

/// The names to try, in order. Those with fewer than `ndots` dots are tried with the search list first.
///
/// # Errors
/// `name` is no domain name.
pub fn expand(name: &str, search: &[Name], ndots: usize) -> Result<Vec<Name>, RequestError> {
    if name.is_empty() {
        return Err(RequestError::Name {
            name: name.to_owned(),
            why: "it is empty".to_owned(),
        });
    }
    let parsed = Name::parse(name).map_err(|error| RequestError::Name {
        name: name.to_owned(),
        why: error.to_string(),
    })?;
    if name.ends_with('.') || search.is_empty() {
        return Ok(vec![parsed]);
    }
    let dots = parsed.as_ref().label_count().saturating_sub(1);
    let expanded = search.iter().filter_map(|domain| {
        // An expansion that is too long is not tried.
        Name::from_labels(parsed.as_ref().labels(), domain.as_ref()).ok()
    });
    let mut names: Vec<Name> = expanded.collect();
    let position = if dots >= ndots { 0 } else { names.len() };
    names.insert(position, parsed);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_few_dots_are_tried_with_the_search_list_first() {
        let search = ["shop.svc.c.", "svc.c.", "c."].map(|name| Name::parse(name).unwrap());
        let expand = |name: &str| -> Vec<String> {
            let names = expand(name, &search, NDOTS).unwrap();
            names.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            expand("web"),
            ["web.shop.svc.c.", "web.svc.c.", "web.c.", "web."]
        );
        assert_eq!(expand("web."), ["web."]);
        assert_eq!(
            expand("a.b.c.d.e.f"),
            [
                "a.b.c.d.e.f.",
                "a.b.c.d.e.f.shop.svc.c.",
                "a.b.c.d.e.f.svc.c.",
                "a.b.c.d.e.f.c."
            ]
        );
        assert!(super::expand("a..b", &search, NDOTS).is_err());
    }
}
