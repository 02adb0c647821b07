//! Options of single destinations, over the defaults of a connection.

use std::collections::BTreeMap;

use crate::driver::DestinationSettings;
use crate::name::Destination;
use crate::settings::Faults;

/// An adapter's options: the defaults of the connection, and those of single destinations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations<O> {
    defaults: O,
    single: BTreeMap<Destination, O>,
}

impl<O: Clone> Destinations<O> {
    /// Reads the settings of each destination over the defaults. `take` takes the keys; what is left over is a fault.
    pub fn read(
        defaults: O,
        settings: &BTreeMap<Destination, DestinationSettings>,
        faults: &mut Faults,
        take: impl Fn(&mut O, &mut DestinationSettings),
    ) -> Self {
        let read = |(destination, settings): (&Destination, &DestinationSettings)| {
            let (mut options, mut settings) = (defaults.clone(), settings.clone());
            take(&mut options, &mut settings);
            settings.driver.finish_into(faults);
            (destination.clone(), options)
        };
        Self { single: settings.iter().map(read).collect(), defaults }
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
    use crate::error::Result;
    use crate::settings::Settings;

    fn destination(name: &str) -> Destination {
        Destination::queue(name).unwrap()
    }

    fn read(given: &[(&str, &str)]) -> Result<Destinations<usize>> {
        let settings = given.iter().map(|(name, lanes)| {
            let driver = Settings::new("here", [("lanes", *lanes)]);
            (destination(name), DestinationSettings { driver, ..DestinationSettings::default() })
        });
        let mut faults = Faults::default();
        let read = Destinations::read(8, &settings.collect(), &mut faults, |lanes, settings| {
            *lanes = settings.driver.take_count("lanes", 1..=9).unwrap_or(*lanes);
        });
        faults.into_result().map(|()| read)
    }

    #[test]
    fn a_destination_has_its_own_options_or_the_defaults() {
        let options = read(&[("orders", "4")]).unwrap();
        assert_eq!(options.of(&destination("orders")), &4);
        assert_eq!(options.of(&destination("other")), options.defaults());
        assert_eq!(options.iter().copied().collect::<Vec<_>>(), [8, 4]);
    }

    #[test]
    fn faults_of_all_destinations_are_reported_at_once() {
        let error = read(&[("orders", "none"), ("weather", "0")]).unwrap_err();
        assert!(error.text().starts_with("2 faults:"), "{error}");
    }
}
