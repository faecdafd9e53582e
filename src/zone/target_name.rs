//! Target names of records, built from right to left in a buffer on the stack.

use crate::wire::NameRef;

/// Maximum length of a name in bytes (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 255;
/// Maximum length of a label in bytes.
const MAX_LABEL: usize = 63;

/// A name built from right to left.
pub struct TargetName {
    /// The name is at the end of the buffer.
    bytes: [u8; MAX_NAME],
    start: usize,
}

impl TargetName {
    /// Starts with a zone.
    pub fn zone(zone: NameRef<'_>) -> Self {
        let mut bytes = [0; MAX_NAME];
        let start = MAX_NAME - zone.as_wire().len();
        bytes[start..].copy_from_slice(zone.as_wire());
        Self { bytes, start }
    }

    /// `SVC.NS.svc.ZONE`; `None` if that is too long for a name.
    pub fn service(service: &str, namespace: &str, zone: NameRef<'_>) -> Option<Self> {
        let mut target = Self::zone(zone);
        target.put(b"svc")?;
        target.put(namespace.as_bytes())?;
        target.put(service.as_bytes())?;
        Some(target)
    }

    /// `SVC.NS.ZONE`, as in `k8s_external` zones.
    pub fn external(service: &str, namespace: &str, zone: NameRef<'_>) -> Option<Self> {
        let mut target = Self::zone(zone);
        target.put(namespace.as_bytes())?;
        target.put(service.as_bytes())?;
        Some(target)
    }

    /// Prepends a label; `None` if it is not a valid label, or the name gets too long.
    pub fn put(&mut self, label: &[u8]) -> Option<()> {
        self.start = self.write(label)?;
        Some(())
    }

    /// The name with a prepended label, which the next call replaces.
    pub fn below(&mut self, label: &[u8]) -> Option<NameRef<'_>> {
        let start = self.write(label)?;
        NameRef::from_wire(&self.bytes[start..]).ok()
    }

    /// Length of the name in bytes.
    pub fn length(&self) -> usize {
        MAX_NAME - self.start
    }

    /// The name.
    pub fn name(&self) -> NameRef<'_> {
        NameRef::from_wire(&self.bytes[self.start..]).expect("labels were checked as they came")
    }

    fn write(&mut self, label: &[u8]) -> Option<usize> {
        if label.is_empty() || label.len() > MAX_LABEL {
            return None;
        }
        let start = self.start.checked_sub(label.len() + 1)?;
        self.bytes[start] = u8::try_from(label.len()).ok()?;
        self.bytes[start + 1..self.start].copy_from_slice(label);
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    #[test]
    fn labels_are_prepended() {
        let zone = Name::parse("Cluster.local").unwrap();
        let mut target = TargetName::service("web", "shop", zone.as_ref()).unwrap();
        assert_eq!(target.name().to_string(), "web.shop.svc.Cluster.local.");
        for label in ["a", "longer", "b"] {
            let name = target.below(label.as_bytes()).unwrap().to_string();
            assert_eq!(name, format!("{label}.web.shop.svc.Cluster.local."));
        }
        assert_eq!(target.name().to_string(), "web.shop.svc.Cluster.local.");
    }

    #[test]
    fn invalid_names_are_rejected() {
        let zone = Name::parse(&"abcdefg.".repeat(20)).unwrap();
        let label = "x".repeat(63);
        assert!(TargetName::service("", "shop", zone.as_ref()).is_none());
        assert!(TargetName::service(&"x".repeat(64), "shop", zone.as_ref()).is_none());
        assert!(TargetName::service(&label, &label, zone.as_ref()).is_none());
        let mut target = TargetName::zone(zone.as_ref());
        // 161 bytes of zone leave 94.
        target.put(label.as_bytes()).unwrap();
        assert!(target.below(&[b'x'; 30]).is_none());
        assert_eq!(target.below(&[b'x'; 29]).unwrap().as_wire().len(), 255);
    }
}
