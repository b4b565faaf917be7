package dev.toolkit.trainer.ui

import android.content.Context
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.Menu
import android.view.MenuItem
import dev.toolkit.trainer.R
import dev.toolkit.trainer.service.Throttle
import dev.toolkit.trainer.store.Names

/** A run's page as a screen. */
class RunActivity : Screen() {
    private lateinit var page: RunPage
    private val throttle = Throttle(REFRESH_MILLISECONDS) { page.refresh() }
    private val onChange: () -> Unit = { throttle.request() }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val asked = savedInstanceState?.getString(NAME) ?: intent.getStringExtra(NAME).orEmpty()
        if (!Names.isValid(asked)) {
            finish()
            return
        }
        show(R.layout.activity_run, "", up = true)
        actionBar?.setDisplayShowTitleEnabled(false)
        page = RunPage(this, requireViewById(R.id.run_page), advises = true, gone = { finish() })
        page.open(asked)
    }

    override fun onDestroy() {
        if (::page.isInitialized) page.close()
        super.onDestroy()
    }

    /** The page is open already, perhaps of another run: a notification or a second tap asked for it. */
    override fun onNewIntent(intent: Intent) {
        super.onNewIntent(intent)
        val asked = intent.getStringExtra(NAME).orEmpty()
        inBackground({ app.runs.find(asked) }) { run ->
            if (run == null || run.name == page.name) return@inBackground
            page.open(run.name)
            page.refresh()
        }
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        if (::page.isInitialized) outState.putString(NAME, page.name)
    }

    override fun onStart() {
        super.onStart()
        if (isFinishing) return
        app.controller.addListener(onChange)
        page.refresh()
    }

    override fun onStop() {
        app.controller.removeListener(onChange)
        throttle.cancel()
        super.onStop()
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        if (level >= TRIM_MEMORY_UI_HIDDEN && ::page.isInitialized) page.forget()
    }

    override fun onCreateOptionsMenu(menu: Menu): Boolean {
        menuInflater.inflate(R.menu.run, menu)
        return true
    }

    override fun onOptionsItemSelected(item: MenuItem): Boolean {
        when (item.itemId) {
            R.id.rename -> page.askToRename()
            R.id.delete -> page.askToDelete()
            else -> return super.onOptionsItemSelected(item)
        }
        return true
    }

    @Deprecated("The platform's own way without androidx")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) = page.picked(requestCode, resultCode, data)

    companion object {
        private const val NAME = "name"

        fun intent(context: Context, name: String): Intent =
            Intent(context, RunActivity::class.java).setData(Uri.fromParts("run", name, null)).putExtra(NAME, name)
    }
}
