"""The backend's process: command, workspace, events, panels of jobs, torch's set-up."""
