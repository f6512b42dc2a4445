//! A point on the earth, and the answer of the geocoding service, read leniently. Pure.

use bson::{Document, RawBsonRef, RawDocument, doc};
use serde::Deserialize;

use crate::model::value;

/// A point in range, in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    longitude: f64,
    latitude: f64,
}

impl Point {
    /// The point of two numbers; `None` unless both are in range.
    fn new(longitude: f64, latitude: f64) -> Option<Self> {
        let in_range = longitude.abs() <= 180.0 && latitude.abs() <= 90.0;
        in_range.then_some(Self { longitude, latitude })
    }

    /// The point of a GeoJSON document; `None` for anything else.
    pub(crate) fn read(document: &RawDocument) -> Option<Self> {
        value::text(value::field(document, "type")).filter(|kind| *kind == "Point")?;
        let numbers = value::list(value::field(document, "coordinates"))?;
        let numbers: Vec<f64> = numbers.into_iter().flatten().filter_map(number).collect();
        match numbers[..] {
            [longitude, latitude] => Self::new(longitude, latitude),
            _ => None,
        }
    }

    /// The point as `geopoint` of a recruiter and `workplace_geopoint` of an offer hold it.
    pub(crate) fn geojson(self) -> Document {
        doc! { "type": "Point", "coordinates": [self.longitude, self.latitude] }
    }

    /// The point as `geo_coordinates` of a recruiter holds it: `"lat,lon"`.
    pub(crate) fn coordinates(self) -> String {
        format!("{},{}", self.latitude, self.longitude)
    }
}

fn number(value: RawBsonRef<'_>) -> Option<f64> {
    value.as_f64().or_else(|| value.as_i32().map(f64::from))
}

/// A GeoJSON collection of the places that the service found, the best one first.
#[derive(Debug, Deserialize)]
pub(super) struct GeocodingReply {
    features: Vec<Feature>,
}

#[derive(Debug, Deserialize)]
struct Feature {
    geometry: Geometry,
    properties: Option<Properties>,
}

#[derive(Debug, Deserialize)]
struct Geometry {
    coordinates: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct Properties {
    postcode: Option<String>,
}

impl GeocodingReply {
    /// The point of the best place; `None` when there is none, or when it lies under another postcode.
    pub(super) fn point(&self, postcode: &str) -> Option<Point> {
        let best = self.features.first()?;
        let found = best.properties.as_ref().and_then(|properties| properties.postcode.as_deref());
        if found.is_some_and(|found| found != postcode) {
            return None;
        }
        match best.geometry.coordinates[..] {
            [longitude, latitude] => Point::new(longitude, latitude),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::RawDocumentBuf;

    use super::*;

    #[test]
    fn the_best_place_under_the_postcode_gives_the_point() {
        let point = |features: serde_json::Value| {
            let reply = serde_json::json!({ "type": "FeatureCollection", "features": features });
            serde_json::from_value::<GeocodingReply>(reply).unwrap().point("75007")
        };
        let place = |coordinates: serde_json::Value, postcode: &str| {
            serde_json::json!({
                "type": "Feature", "geometry": { "type": "Point", "coordinates": coordinates },
                "properties": { "score": 0.9, "postcode": postcode },
            })
        };
        let [near, far] = [serde_json::json!([2.3, 48.8]), serde_json::json!([4.8, 45.7])];
        let found = point(serde_json::json!([place(near.clone(), "75007"), place(far.clone(), "75007")])).unwrap();
        assert_eq!(found.coordinates(), "48.8,2.3");
        assert_eq!(found.geojson(), doc! { "type": "Point", "coordinates": [2.3, 48.8] });
        assert_eq!(point(serde_json::json!([])), None);
        assert_eq!(point(serde_json::json!([place(far, "69001")])), None, "another town");
        assert_eq!(point(serde_json::json!([place(serde_json::json!([2.3, 98.8]), "75007")])), None, "out of range");
        let without = serde_json::json!([{ "geometry": { "coordinates": near }, "properties": null }]);
        assert!(point(without).is_some());
    }

    #[test]
    fn only_a_point_in_range_is_read() {
        let read = |document: Document| Point::read(&RawDocumentBuf::try_from(&document).unwrap());
        let point = doc! { "type": "Point", "coordinates": [2.35, 48.85] };
        assert_eq!(read(point.clone()).unwrap().geojson(), point);
        assert!(read(doc! { "type": "Point", "coordinates": [2, 48] }).is_some());
        for document in [
            doc! {},
            doc! { "type": "Polygon", "coordinates": [2.35, 48.85] },
            doc! { "type": "Point", "coordinates": [2.35] },
            doc! { "type": "Point", "coordinates": [48.85, 181.0] },
            doc! { "type": "Point", "coordinates": [f64::NAN, 1.0] },
        ] {
            assert_eq!(read(document.clone()), None, "{document}");
        }
    }
}
