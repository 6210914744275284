//! The objects of one kind as the server has them: what came whole, what is wrong, and what is
//! being listed. A list replaces what was there at its end, all at once.

use std::collections::BTreeMap;

use ::kube::api::DynamicObject;
use ::kube::core::ObjectMeta;
use ::kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;

use super::super::objects::{Metadata, Node, ObjectError, Objects, Pod, fault};
use super::super::ranges::ServiceCidr;
use super::super::service::Service;
use super::super::slice::EndpointSlice;

/// Annotations that mean something here; all others may change without anybody being woken.
const ANNOTATIONS: [&str; 2] = ["hopscope.dev/", "kubernetes.io/config.mirror"];

/// A kind that is kept among [`Objects`].
pub(super) trait Shelved: DeserializeOwned + PartialEq {
    /// What it is known by.
    type Key: Ord + Clone;
    /// As errors call one.
    fn object(metadata: &Metadata) -> String;
    fn key(metadata: &Metadata) -> Self::Key;
    fn set_metadata(&mut self, metadata: Metadata);
    fn among(objects: &mut Objects) -> &mut BTreeMap<Self::Key, Self>;
}

macro_rules! shelved {
    ($type:ty, $kind:literal, $field:ident, by name) => {
        impl Shelved for $type {
            type Key = String;
            fn object(metadata: &Metadata) -> String {
                format!(concat!($kind, " {}"), metadata.name)
            }
            fn key(metadata: &Metadata) -> Self::Key {
                metadata.name.clone()
            }
            shelved!(rest $field);
        }
    };
    ($type:ty, $kind:literal, $field:ident, by namespace) => {
        impl Shelved for $type {
            type Key = (String, String);
            fn object(metadata: &Metadata) -> String {
                format!(concat!($kind, " {}/{}"), metadata.namespace, metadata.name)
            }
            fn key(metadata: &Metadata) -> Self::Key {
                (metadata.namespace.clone(), metadata.name.clone())
            }
            shelved!(rest $field);
        }
    };
    (rest $field:ident) => {
        fn set_metadata(&mut self, metadata: Metadata) {
            self.metadata = metadata;
        }
        fn among(objects: &mut Objects) -> &mut BTreeMap<Self::Key, Self> {
            &mut objects.$field
        }
    };
}

shelved!(Node, "Node", nodes, by name);
shelved!(Pod, "Pod", pods, by namespace);
shelved!(Service, "Service", services, by namespace);
shelved!(EndpointSlice, "EndpointSlice", slices, by namespace);
shelved!(ServiceCidr, "ServiceCIDR", service_cidrs, by name);

/// What is kept of a kind beside the objects themselves.
#[derive(Debug)]
pub(super) struct Shelf<T: Shelved> {
    /// Objects that cannot be read: each is left out for itself.
    faults: BTreeMap<T::Key, ObjectError>,
    /// A list that is under way.
    arriving: Option<Arriving<T>>,
    /// Whether there was a whole list.
    pub(super) whole: bool,
}

#[derive(Debug)]
struct Arriving<T: Shelved> {
    objects: BTreeMap<T::Key, T>,
    faults: BTreeMap<T::Key, ObjectError>,
}

impl<T: Shelved> Default for Shelf<T> {
    fn default() -> Self {
        Self { faults: BTreeMap::new(), arriving: None, whole: false }
    }
}

impl<T: Shelved> Shelf<T> {
    /// Takes in what happened. Whether anything that is read here is different now.
    pub(super) fn hear(&mut self, objects: &mut Objects, event: Event<DynamicObject>) -> bool {
        let objects = T::among(objects);
        match event {
            Event::Init => {
                let arriving = Arriving { objects: BTreeMap::new(), faults: BTreeMap::new() };
                self.arriving = Some(arriving);
                false
            }
            Event::InitApply(object) => {
                if let Some(arriving) = &mut self.arriving {
                    put(&mut arriving.objects, &mut arriving.faults, object);
                }
                false
            }
            Event::InitDone => match self.arriving.take() {
                Some(arriving) => self.replace(objects, arriving),
                None => false,
            },
            Event::Apply(object) => put(objects, &mut self.faults, object),
            Event::Delete(object) => {
                let key = T::key(&metadata(object.metadata));
                // Both: an object is on one of the two sides.
                let (gone, mended) = (objects.remove(&key), self.faults.remove(&key));
                gone.is_some() || mended.is_some()
            }
        }
    }

    /// There are none, as far as anybody can tell.
    pub(super) fn clear(&mut self, objects: &mut Objects) -> bool {
        let nothing = Arriving { objects: BTreeMap::new(), faults: BTreeMap::new() };
        self.arriving = None;
        self.replace(T::among(objects), nothing)
    }

    fn replace(&mut self, objects: &mut BTreeMap<T::Key, T>, by: Arriving<T>) -> bool {
        let changed = !self.whole || *objects != by.objects || self.faults != by.faults;
        (*objects, self.faults, self.whole) = (by.objects, by.faults, true);
        changed
    }

    /// What is wrong with single objects.
    pub(super) fn faults(&self) -> impl Iterator<Item = &ObjectError> {
        self.faults.values()
    }
}

/// Puts an object where it belongs. Whether that is another than before.
fn put<T: Shelved>(
    objects: &mut BTreeMap<T::Key, T>,
    faults: &mut BTreeMap<T::Key, ObjectError>,
    object: DynamicObject,
) -> bool {
    let metadata = metadata(object.metadata);
    let key = T::key(&metadata);
    match serde_path_to_error::deserialize::<_, T>(object.data) {
        Ok(mut read) => {
            read.set_metadata(metadata);
            let mended = faults.remove(&key).is_some();
            let same = objects.get(&key) == Some(&read);
            objects.insert(key, read);
            mended || !same
        }
        Err(error) => {
            let path = error.path().to_string();
            let found = fault(&T::object(&metadata), &path, error.into_inner().to_string());
            let gone = objects.remove(&key).is_some();
            faults.insert(key, found.clone()) != Some(found) || gone
        }
    }
}

/// What is read of an object's metadata.
fn metadata(of: ObjectMeta) -> Metadata {
    let mut annotations = of.annotations.unwrap_or_default();
    annotations.retain(|key, _| ANNOTATIONS.iter().any(|ours| key.starts_with(ours)));
    Metadata {
        name: of.name.unwrap_or_default(),
        namespace: of.namespace.unwrap_or_default(),
        uid: of.uid.unwrap_or_default(),
        labels: of.labels.unwrap_or_default(),
        annotations,
        deletion_timestamp: of.deletion_timestamp.map(|since| since.0.to_string()),
    }
}
