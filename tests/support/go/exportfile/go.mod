module exportfile

go 1.21
