//! Pure: the fields of a HorizontalPodAutoscaler as they are written.
//!
//! Within `spec` an unknown key is refused, as `kubectl` does: a slip of the pen would else be
//! replayed as its default.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Enough of any document to know it by.
#[derive(Deserialize)]
pub struct Document {
    pub kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawHpa {
    pub api_version: String,
    #[serde(default)]
    pub metadata: RawMetadata,
    pub spec: RawSpec,
}

#[derive(Deserialize, Default)]
pub struct RawMetadata {
    pub name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawSpec {
    pub min_replicas: Option<u32>,
    pub max_replicas: u32,
    pub metrics: Option<Vec<RawMetric>>,
    #[serde(rename = "targetCPUUtilizationPercentage")]
    pub target_cpu_utilization_percentage: Option<u32>,
    pub behavior: Option<RawBehavior>,
    #[serde(rename = "scaleTargetRef")]
    _scale_target_ref: Option<IgnoredAny>,
    #[serde(rename = "selectionStrategy")]
    _selection_strategy: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawMetric {
    #[serde(rename = "type")]
    pub kind: String,
    resource: Option<RawSource>,
    container_resource: Option<RawSource>,
    pods: Option<RawSource>,
    object: Option<RawSource>,
    external: Option<RawSource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawSource {
    /// Of a resource.
    pub name: Option<String>,
    /// Of everything else.
    metric: Option<RawMetadata>,
    pub target: Option<RawTarget>,
    #[serde(rename = "container")]
    _container: Option<IgnoredAny>,
    #[serde(rename = "describedObject")]
    _described_object: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawTarget {
    #[serde(rename = "type")]
    pub kind: String,
    pub average_utilization: Option<u32>,
    pub average_value: Option<Quantity>,
    pub value: Option<Quantity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawBehavior {
    pub scale_up: Option<RawRules>,
    pub scale_down: Option<RawRules>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawRules {
    pub stabilization_window_seconds: Option<u32>,
    pub select_policy: Option<String>,
    pub policies: Option<Vec<RawPolicy>>,
    pub tolerance: Option<Quantity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawPolicy {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: u32,
    pub period_seconds: u32,
}

/// A number with a suffix: `500m`, `1.5`, `2k`, `1Gi`, `3e2`.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    Number(f64),
    Text(String),
}

impl RawMetric {
    /// The key that its type asks for, and what stands there; `None` for an unknown type.
    pub fn source(&self) -> Option<(&'static str, Option<&RawSource>)> {
        Some(match self.kind.as_str() {
            "Resource" => ("resource", self.resource.as_ref()),
            "ContainerResource" => ("containerResource", self.container_resource.as_ref()),
            "Pods" => ("pods", self.pods.as_ref()),
            "Object" => ("object", self.object.as_ref()),
            "External" => ("external", self.external.as_ref()),
            _ => return None,
        })
    }

    /// For people: type and name.
    pub fn label(&self) -> String {
        let source = self.source().and_then(|(_, source)| source);
        let metric = source.and_then(|s| s.metric.as_ref()).and_then(|m| m.name.as_deref());
        let name = source.and_then(|s| s.name.as_deref()).or(metric);
        format!("{} {}", self.kind, name.unwrap_or_default()).trim_end().to_string()
    }
}

/// Suffixes and what they multiply by, longer ones first.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

impl Quantity {
    /// # Errors
    /// A sentence if it is no quantity of 0 or more.
    pub fn read(&self, key: &str) -> Result<f64, String> {
        let (value, shown) = match self {
            Quantity::Number(value) => (Some(*value), value.to_string()),
            Quantity::Text(text) => {
                let suffix = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix));
                let (digits, unit) = match suffix {
                    Some((suffix, unit)) => (&text[..text.len() - suffix.len()], *unit),
                    None => (text.as_str(), 1.0),
                };
                (digits.parse::<f64>().ok().map(|n| n * unit), format!("{text:?}"))
            }
        };
        value.filter(|v| v.is_finite() && *v >= 0.0).ok_or_else(|| {
            format!("{key}: {shown} is no quantity; write a number such as 0.5, 500m or 2k")
        })
    }
}
