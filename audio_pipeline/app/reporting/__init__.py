"""What people read: terminal pages, the HTML report, plots, a FHIR resource."""
