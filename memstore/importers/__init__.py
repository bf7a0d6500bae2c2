"""Foreign trees and dumps in; one file per source."""
