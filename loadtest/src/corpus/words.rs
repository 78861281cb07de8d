//! The vocabulary of the generated events.

/// The consent categories that events speak of; configs of the load test know all of them.
pub const CATEGORIES: [&str; 10] = [
    "Advertising",
    "Analytics",
    "Functional",
    "Personalization",
    "Social_Media",
    "Targeting",
    "C0004",
    "Marketing",
    "Data_Sharing",
    "Support",
];

/// The names by which `integrations` objects speak of destinations.
pub const INTEGRATIONS: [&str; 8] = [
    "Google Ads",
    "Facebook Pixel",
    "Amplitude",
    "Mixpanel",
    "Salesforce",
    "Braze",
    "Customer.io",
    "Webhooks",
];

/// The track event by which senders tell that an end user's preferences changed.
pub const PREFERENCE_UPDATED: &str = "Segment Consent Preference Updated";

pub(super) const TRACKED: [&str; 8] = [
    "Product Viewed",
    "Order Completed",
    "Checkout Started",
    "Article Read",
    "Signed Up",
    "Video Playback Started",
    "Coupon Entered",
    "Search Performed",
];

pub(super) const NAMES: [&str; 8] = [
    "Ada Lovelace",
    "Zoë Müller",
    "李小龍",
    "Søren Ødegård",
    "Мария Иванова",
    "João Conceição",
    "Grace Hopper",
    "नेहा शर्मा",
];

pub(super) const TITLES: [&str; 8] = [
    "Running shoes and more",
    "Spring sale: everything must go",
    "Crème brûlée for beginners",
    "東京の天気",
    "Best of 2026 🎉 so far",
    "Checkout",
    "How we built our data platform",
    "Preisliste für Großkunden",
];

/// Texts that cannot be written without a backslash.
pub(super) const ESCAPED: [&str; 4] = [
    "she said \"call me back\" and hung up",
    "first line\nsecond line\tindented",
    "C:\\Users\\shared\\export.csv",
    "{\"context\":{\"consent\":{\"categoryPreferences\":{\"Advertising\":true}}}}",
];

pub(super) const PATHS: [&str; 6] = [
    "/",
    "/products/running-shoes",
    "/articles/2026/11/consent",
    "/checkout/payment",
    "/account/settings/privacy",
    "/search",
];

pub(super) const USER_AGENTS: [&str; 4] = [
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "okhttp/4.12.0 (Android 14; Pixel 8)",
];

pub(super) const LOCALES: [&str; 6] = ["en-US", "de-DE", "ja-JP", "fr-FR", "pt-BR", "sv-SE"];

pub(super) const TIME_ZONES: [&str; 5] =
    ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "America/Sao_Paulo", "UTC"];

pub(super) const CITIES: [&str; 5] = ["Berlin", "São Paulo", "東京", "New York", "Malmö"];
