//! Names that records point to, put together from the right in a buffer on the stack.

use crate::wire::NameRef;

/// Octets of a name at most (RFC 1035 §2.3.4).
const MAX_NAME: usize = 255;
/// Octets of a label at most.
const MAX_LABEL: usize = 63;

/// A name that grows to the left.
pub struct Target {
    /// The name stands at the end.
    octets: [u8; MAX_NAME],
    start: usize,
}

impl Target {
    /// Begins with a zone.
    pub fn zone(zone: NameRef<'_>) -> Self {
        let mut octets = [0; MAX_NAME];
        let start = MAX_NAME - zone.as_wire().len();
        octets[start..].copy_from_slice(zone.as_wire());
        Self { octets, start }
    }

    /// `SVC.NS.svc.ZONE`; nothing where that is too long for a name.
    pub fn service(service: &str, namespace: &str, zone: NameRef<'_>) -> Option<Self> {
        let mut target = Self::zone(zone);
        target.put(b"svc")?;
        target.put(namespace.as_bytes())?;
        target.put(service.as_bytes())?;
        Some(target)
    }

    /// `SVC.NS.ZONE`, as a zone that shows Services to the outside has it.
    pub fn external(service: &str, namespace: &str, zone: NameRef<'_>) -> Option<Self> {
        let mut target = Self::zone(zone);
        target.put(namespace.as_bytes())?;
        target.put(service.as_bytes())?;
        Some(target)
    }

    /// Puts a label in front; nothing where it is none, or the name grows too long.
    pub fn put(&mut self, label: &[u8]) -> Option<()> {
        self.start = self.write(label)?;
        Some(())
    }

    /// The name with one more label in front, which the next call replaces.
    pub fn below(&mut self, label: &[u8]) -> Option<NameRef<'_>> {
        let start = self.write(label)?;
        NameRef::from_wire(&self.octets[start..]).ok()
    }

    /// Bytes of the name.
    pub fn length(&self) -> usize {
        MAX_NAME - self.start
    }

    /// The name.
    pub fn name(&self) -> NameRef<'_> {
        NameRef::from_wire(&self.octets[self.start..]).expect("labels were checked as they came")
    }

    fn write(&mut self, label: &[u8]) -> Option<usize> {
        if label.is_empty() || label.len() > MAX_LABEL {
            return None;
        }
        let start = self.start.checked_sub(label.len() + 1)?;
        self.octets[start] = u8::try_from(label.len()).ok()?;
        self.octets[start + 1..self.start].copy_from_slice(label);
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    #[test]
    fn names_grow_to_the_left() {
        let zone = Name::parse("Cluster.local").unwrap();
        let mut target = Target::service("web", "shop", zone.as_ref()).unwrap();
        assert_eq!(target.name().to_string(), "web.shop.svc.Cluster.local.");
        for label in ["a", "longer", "b"] {
            let name = target.below(label.as_bytes()).unwrap().to_string();
            assert_eq!(name, format!("{label}.web.shop.svc.Cluster.local."));
        }
        assert_eq!(target.name().to_string(), "web.shop.svc.Cluster.local.");
    }

    #[test]
    fn what_is_no_name_is_not_made() {
        let zone = Name::parse(&"abcdefg.".repeat(20)).unwrap();
        let label = "x".repeat(63);
        assert!(Target::service("", "shop", zone.as_ref()).is_none());
        assert!(Target::service(&"x".repeat(64), "shop", zone.as_ref()).is_none());
        assert!(Target::service(&label, &label, zone.as_ref()).is_none());
        let mut target = Target::zone(zone.as_ref());
        // 161 octets of zone leave 94.
        target.put(label.as_bytes()).unwrap();
        assert!(target.below(&[b'x'; 30]).is_none());
        assert_eq!(target.below(&[b'x'; 29]).unwrap().as_wire().len(), 255);
    }
}
