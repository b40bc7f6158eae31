"""The ways of asking for another look; the manifest's ``perception`` names one."""
