module agentclient

go 1.21
