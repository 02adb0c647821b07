//! Options of single destinations, over the defaults of a connection.

use std::collections::BTreeMap;

use crate::driver::DestinationSettings;
use crate::error::Result;
use crate::name::Destination;

/// An adapter's options: the defaults of the connection, and those of single destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations<O> {
    defaults: O,
    single: BTreeMap<Destination, O>,
}

impl<O: Clone> Destinations<O> {
    /// Reads what the configuration says of each destination over the defaults.
    ///
    /// # Errors
    /// As for `take`.
    pub fn read(
        defaults: O,
        settings: BTreeMap<Destination, DestinationSettings>,
        take: impl Fn(O, DestinationSettings) -> Result<O>,
    ) -> Result<Self> {
        let single = settings.into_iter().map(|(to, settings)| Ok((to, take(defaults.clone(), settings)?)));
        Ok(Self { single: single.collect::<Result<_>>()?, defaults })
    }

    /// The options of one destination.
    #[must_use]
    pub fn of(&self, destination: &Destination) -> &O {
        self.single.get(destination).unwrap_or(&self.defaults)
    }

    /// The options of destinations that the configuration does not name.
    #[must_use]
    pub fn defaults(&self) -> &O {
        &self.defaults
    }

    /// The defaults, then the options of each destination that the configuration names.
    pub fn iter(&self) -> impl Iterator<Item = &O> {
        std::iter::once(&self.defaults).chain(self.single.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn destination(name: &str) -> Destination {
        Destination::queue(name).unwrap()
    }

    fn read(given: &[(&str, &str)]) -> Result<Destinations<usize>> {
        let settings = given.iter().map(|(name, lanes)| {
            let driver = Settings::new("here", [("lanes", *lanes)]);
            (destination(name), DestinationSettings { driver, ..DestinationSettings::default() })
        });
        Destinations::read(8, settings.collect(), |lanes, mut settings| {
            let given = settings.driver.take_positive("lanes")?;
            settings.driver.finish()?;
            Ok(given.unwrap_or(lanes))
        })
    }

    #[test]
    fn a_destination_has_its_own_options_or_the_defaults() {
        let options = read(&[("orders", "4")]).unwrap();
        assert_eq!(options.of(&destination("orders")), &4);
        assert_eq!(options.of(&destination("other")), options.defaults());
        assert_eq!(options.iter().copied().collect::<Vec<_>>(), [8, 4]);
        assert!(read(&[("orders", "none")]).is_err());
    }
}
