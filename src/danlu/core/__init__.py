"""The ground floor: settings, registry, artefacts, lineage, errors, files, seeds, machine, log. No torch, no numpy."""
