from stillhouse.cli.main import main

main()
