"""Define the metadata of the distribution; pyproject.toml has the build system and the settings of the tools."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r"^__version__ = '(.+)'$", (HERE / 'geventnode' / '__init__.py').read_text('utf-8'), re.MULTILINE)


def description() -> str:
    """Return the README for the package index, which cannot show other files: without the picture, links as names."""
    text = (HERE / 'README.md').read_text('utf-8')
    text = re.sub(r'<picture>.*?</picture>\n\n', '', text, flags=re.DOTALL)
    return re.sub(r'\[([^]]+)\]\((?!https?://)([^)]+)\)', r'\1 (`\2`)', text)


setup(
    name='geventnode',
    version=VERSION[1],
    description="Node's HTTP interface on gevent: a streaming server that holds thousands of connections",
    long_description=description(),
    long_description_content_type='text/markdown',
    author='the geventnode developers',
    license='MIT',
    license_files=['LICENSE'],
    packages=find_packages(include=['geventnode', 'geventnode.*']),
    # An editable installation then is a path. Otherwise, each interpreter would import a finder, half of its start.
    package_dir={'': '.'},
    package_data={'geventnode': ['py.typed', 'cli/demo/*', 'monitor/*.html']},
    entry_points={'console_scripts': ['geventnode = geventnode.cli.main:main']},
    python_requires='>=3.10',
    install_requires=[
        'gevent>=23.7.0',
        'greenlet>=2.0.0',
        'zope.interface>=5.5.0',
    ],
    extras_require={
        'cli': ['tqdm>=4.60'],
        # The worker reads gunicorn's configuration and overrides methods of its base class: another major version can
        # change both.
        'gunicorn': ['gunicorn>=23.0,<28'],
        # Its packages hpack and hyperframe do the framing and the compression of HTTP/2.
        'http2': ['h2>=4.1', 'hpack>=4.0', 'hyperframe>=6.0'],
        'idna': ['idna>=3.7'],
        'opentelemetry': ['opentelemetry-api>=1.26'],
        'prometheus': ['prometheus-client>=0.20'],
        'requests': ['requests>=2.32.5', 'urllib3>=2.2.2'],
        'testing': ['pytest>=8.0'],
        'websocket': ['wsproto>=1.2'],
        'test': [
            'pytest>=9.0',
            'pytest-xdist>=3.6',
            'bottle>=0.13',
            'cherrypy>=18.10',
            'django>=5.2',
            'dulwich>=0.22',
            'falcon>=4.0',
            'flask>=3.1',
            'flask-sock>=0.7',
            'flask-socketio>=5.5',
            'gunicorn>=23.0,<28',
            'h11>=0.14',
            'h2>=4.1',
            'httpx>=0.27',
            'idna>=3.7',
            # CherryPy needs it; later versions need typer, and so pydantic: 11 packages
            'jaraco.text<4.2',
            'opentelemetry-sdk>=1.26',
            'prometheus-client>=0.20',
            'psycopg[binary]>=3.2.2',
            'psycopg_pool>=3.2.3',
            'pyramid>=2.0',
            'pyspnego>=0.11',
            'requests>=2.32.5',
            'requests-ntlm>=1.3',
            'setuptools>=70.1',
            'simple-websocket>=1.0',
            'tqdm>=4.60',
            'trustme>=1.2',
            'truststore>=0.10',
            'urllib3>=2.2.2',
            'websocket-client>=1.6',
            'wsproto>=1.2',
        ],
        'docs': [
            'sphinx>=8.1',
            'furo>=2024.8',
            'repoze.sphinx.autointerface>=1.1',
            'gunicorn>=23.0,<28',
            'h2>=4.1',
            'opentelemetry-api>=1.26',
            'prometheus-client>=0.20',
            'requests>=2.32.5',
            'urllib3>=2.2.2',
            'wsproto>=1.2',
        ],
        'bench': [
            'aiohttp>=3.9',
            'geventhttpclient>=2.0',
            'granian>=2.0',
            'gunicorn>=26.2',
            'h11>=0.14',
            'h2>=4.1',
            'httptools>=0.6',
            'hypercorn>=0.17',
            'packaging>=23.0',
            'requests>=2.32.5',
            'simple-websocket>=1.0',
            'trustme>=1.2',
            'uvicorn>=0.30',
            'uvloop>=0.20',
            'waitress>=3.0',
            'wsproto>=1.2',
        ],
    },
    classifiers=[
        'Development Status :: 2 - Pre-Alpha',
        'Framework :: gevent',
        'Intended Audience :: Developers',
        'Operating System :: POSIX',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Programming Language :: Python :: 3.14',
        'Programming Language :: Python :: 3.15',
        'Programming Language :: Python :: Implementation :: CPython',
        'Topic :: Internet :: WWW/HTTP :: HTTP Servers',
        'Typing :: Typed',
    ],
)
