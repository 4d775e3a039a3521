"""Aurora: keys, limits, metering, and invoices for companies that sell an API and widgets."""

__version__ = "0.1.0"
