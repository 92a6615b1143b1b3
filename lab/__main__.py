from lab.cli import main

if __name__ == "__main__":  # a process of the tests imports this file too
    main()
